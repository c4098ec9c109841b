//! A daemon that starts with other sizes or another layout than the pinned maps have: it fills new maps, lets the program
//! that uses them take the place of the running one, and then lets them take the place of the former maps.

use anyhow::{Context, Result};
use lb_common::{Address, VirtualServer};
use tracing::info;

use super::{Daemon, sessions::now};
use crate::{
    config::Config,
    control::{Platform, handover::Handover, transplant::transplant},
    dataplane::{Former, Sizes, Tables, former::Fragments},
};

/// The former maps, and what is to be done with them.
pub struct Upgrade {
    former: Former,
    /// The new maps are empty, and no packet uses them yet. Otherwise an earlier daemon ended between that and the end.
    is_whole: bool,
    fragments: Fragments,
}

impl Upgrade {
    /// Nothing is to be done where there are no former maps.
    pub fn new(former: Option<Former>, is_whole: bool, fragments: Fragments) -> Option<Self> {
        Some(Self {
            former: former?,
            is_whole,
            fragments,
        })
    }

    /// Fills the new maps with what the configuration has of the former ones.
    pub fn transplant(&self, tables: &Tables, sizes: &Sizes, config: &Config) -> Result<()> {
        if !self.is_whole {
            return Ok(());
        }
        let is_wanted = |entry: &VirtualServer| {
            config.virtual_servers.iter().any(|wanted| {
                entry.name.as_str() == Some(wanted.name.as_str())
                    && entry.vip == Address::from(wanted.vip)
                    && entry.protocol == wanted.protocol.number()
            })
        };
        transplant(&self.former, tables, sizes, is_wanted)
            .context("the new maps have no room for what is in use")
    }

    /// Puts the program in the place of the running one, with all sessions. The maps say what is wanted already.
    pub fn hand_over(mut self, daemon: &mut Daemon) -> Result<()> {
        let Daemon {
            reconciler,
            interfaces,
            balancer,
            pins,
            config,
            ..
        } = daemon;
        let (tables, counters) = reconciler.parts_mut();
        let mut handover = Handover::new(&self.former, tables);
        handover.copy(now(), !self.is_whole);
        // What may fail comes before the packets of links that are pinned use the new maps.
        let in_use = interfaces.attach_new(balancer, pins, config)?;
        if self.is_whole {
            handover.copy(now(), in_use);
            handover.continue_counts(counters, &mut self.fragments)?;
            pins.replace_maps()?;
        }
        handover.hold();
        let attached = interfaces.attach(balancer, pins, config);
        handover.copy(now(), true);
        counters.wait_for_packets();
        handover.copy(now(), true);
        handover.release();
        attached?;
        pins.forget_former()?;
        let copied = handover.copied;
        info!(
            sessions = copied.sessions,
            evicted = copied.evicted,
            "took the sessions over into maps of other sizes or another layout"
        );
        Ok(())
    }
}
