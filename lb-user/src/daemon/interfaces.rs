//! The interfaces that the balancer serves.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result};
use aya::maps::{HashMap, MapData};
use lb_common::Interface as InterfaceEntry;
use tracing::warn;

use crate::{
    config::Config,
    dataplane::{Attachments, Pins, Program},
    net::{View, solicited::Memberships},
};

/// What is set up on the interfaces: the program, the MAC address that it answers with, and the groups
/// that questions for IPv6 VIPs are sent to.
pub struct Interfaces {
    map: HashMap<MapData, u32, [u8; size_of::<InterfaceEntry>()]>,
    attachments: Attachments,
    memberships: Memberships,
}

impl Interfaces {
    /// Nothing is set up yet.
    pub fn new(map: HashMap<MapData, u32, [u8; size_of::<InterfaceEntry>()]>) -> Self {
        Self {
            map,
            attachments: Attachments::default(),
            memberships: Memberships::default(),
        }
    }

    /// Attaches the program to the interfaces of the configuration that don't have it. It answers for no VIP there
    /// until [`Self::settle`].
    pub fn attach(&mut self, balancer: &mut Program, pins: &Pins, config: &Config) -> Result<()> {
        for interface in &config.interfaces {
            self.attachments.attach(balancer, pins, interface)?;
        }
        Ok(())
    }

    /// As [`Self::attach`], to those that are there.
    pub fn follow(&mut self, balancer: &mut Program, pins: &Pins, config: &Config) {
        self.attachments.follow(balancer, pins, &config.interfaces);
    }

    /// Lets the interfaces of the configuration answer for its VIPs, and takes the program off all others.
    pub fn settle(
        &mut self,
        balancer: &mut Program,
        pins: &Pins,
        config: &Config,
        network: &View,
    ) -> Result<()> {
        let known = || {
            let interfaces = config.interfaces.iter();
            interfaces.filter_map(|interface| network.interfaces.get(&interface.name))
        };
        self.write_macs(known().filter_map(|known| Some((known.ifindex, known.mac?))))
            .context("can't write the map interfaces")?;
        self.attachments
            .retain(balancer, pins, &config.interfaces)?;
        let vips = config
            .virtual_servers
            .iter()
            .filter_map(|server| match server.vip {
                IpAddr::V6(vip) => Some(vip),
                IpAddr::V4(_) => None,
            });
        let ifindexes: BTreeSet<u32> = known().map(|known| known.ifindex).collect();
        for error in self.memberships.set(&ifindexes, &vips.collect()) {
            warn!("{error}");
        }
        Ok(())
    }

    /// Takes the program off all interfaces.
    pub fn detach_all(&mut self, balancer: &mut Program, pins: &Pins) -> Result<()> {
        Ok(self.attachments.retain(balancer, pins, &[])?)
    }

    fn write_macs(&mut self, macs: impl Iterator<Item = (u32, [u8; 6])>) -> Result<()> {
        let mut stale: BTreeSet<u32> = self.map.keys().collect::<Result<_, _>>()?;
        for (ifindex, mac) in macs {
            stale.remove(&ifindex);
            let entry = InterfaceEntry {
                mac,
                reserved: [0; 2],
            };
            self.map
                .insert(ifindex, bytemuck::cast::<_, [u8; 8]>(entry), 0)?;
        }
        for ifindex in stale {
            self.map.remove(&ifindex)?;
        }
        Ok(())
    }
}
