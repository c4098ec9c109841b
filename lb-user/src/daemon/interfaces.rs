//! The interfaces that the balancer serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{Context, Result};
use lb_common::Interface as Entry;
use tracing::warn;

use crate::{
    config::Config,
    dataplane::{Array, AttachError, Attachments, Pins, Program},
    net::{View, solicited::Memberships},
};

/// What is set up on the interfaces: the program, the MAC address that it answers with, and the groups
/// that questions for IPv6 VIPs are sent to.
#[derive(Default)]
pub struct Interfaces {
    attachments: Attachments,
    memberships: Memberships,
}

impl Interfaces {
    /// Attaches the program to the interfaces of the configuration that don't have it. It answers for no VIP there
    /// until [`Self::settle`].
    pub fn attach(&mut self, balancer: &mut Program, pins: &Pins, config: &Config) -> Result<()> {
        for interface in &config.interfaces {
            self.attachments.attach(balancer, pins, interface)?;
        }
        Ok(())
    }

    /// As [`Self::attach`], to those where no program of an earlier daemon is. Whether there are any.
    pub fn attach_new(
        &mut self,
        balancer: &mut Program,
        pins: &Pins,
        config: &Config,
    ) -> Result<bool> {
        let mut attached = false;
        for interface in &config.interfaces {
            if !pins.link(&interface.name).exists() {
                self.attachments.attach(balancer, pins, interface)?;
                attached = true;
            }
        }
        Ok(attached)
    }

    /// As [`Self::attach`], to those that are there.
    pub fn follow(&mut self, balancer: &mut Program, pins: &Pins, config: &Config) {
        self.attachments.follow(balancer, pins, &config.interfaces);
    }

    /// Puts a program in the place of another one, on each interface in one step, so that no packet is lost.
    ///
    /// # Errors
    /// The kernel's, for an interface that keeps the old one, until [`Self::follow`]; others have the new one all the same.
    pub fn replace(
        &mut self,
        old: &mut Program,
        new: &mut Program,
        pins: &Pins,
        config: &Config,
    ) -> Result<(), AttachError> {
        let attached = self.attachments.release(old);
        let interfaces = config.interfaces.iter();
        let outcomes: Vec<_> = interfaces
            .filter(|interface| attached.contains(&interface.name))
            .map(|interface| self.attachments.attach(new, pins, interface))
            .collect();
        outcomes.into_iter().collect()
    }

    /// Whether the program is attached to an interface of this name.
    pub fn is_attached(&self, interface: &str) -> bool {
        self.attachments.is_attached(interface)
    }

    /// Lets the interfaces of the configuration answer for its VIPs, and takes the program off all others.
    pub fn settle(
        &mut self,
        balancer: &mut Program,
        pins: &Pins,
        map: &Array<Entry>,
        config: &Config,
        network: &View,
    ) -> Result<()> {
        let known = || {
            let interfaces = config.interfaces.iter();
            interfaces.filter_map(|interface| network.interfaces.get(&interface.name))
        };
        let macs = known().filter_map(|known| Some((known.ifindex, known.mac?)));
        write_macs(map, &macs.collect())?;
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
}

/// Writes the map `interfaces`.
fn write_macs(map: &Array<Entry>, macs: &BTreeMap<u32, [u8; 6]>) -> Result<()> {
    let mut entries = vec![Entry::default(); Entry::SLOTS as usize];
    for (&ifindex, &mac) in macs {
        let mut places = (0..Entry::PLACES).map(|number| Entry::place(ifindex, number) as usize);
        let free = places.find(|&place| entries[place].ifindex == 0);
        let place = free.with_context(|| {
            format!("no place in the map interfaces for interface {ifindex}: use fewer interfaces")
        })?;
        entries[place] = Entry {
            ifindex,
            mac,
            ..Entry::default()
        };
    }
    for (index, entry) in (0..).zip(entries) {
        if map.get(index) != entry {
            map.set(index, entry);
        }
    }
    Ok(())
}
