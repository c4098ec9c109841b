//! The arrays that packets follow, as the daemon writes them.

use std::{io, sync::Arc};

use lb_common::{
    Binding, Budget, Clock, Control, Counters, Interface, LAYOUT, PortRange, RealServer,
    TableBlock, Vip, VipBucket, VirtualServer, session::buckets_for,
};

use super::{Array, SessionTables};
use crate::config::Limits;

/// How many entries each map has. Index 0 of most stays free, because zero means "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// `vip_buckets`: two directories.
    pub vip_buckets: u32,
    /// `vips`: two directories.
    pub vips: u32,
    /// `port_ranges`: two directories.
    pub port_ranges: u32,
    /// `virtual_servers`, `unbound_counters` and `turns`.
    pub virtual_servers: u32,
    /// `predictor_tables`.
    pub table_blocks: u32,
    /// `bindings`, `binding_counters` and `active_sessions`.
    pub bindings: u32,
    /// `real_servers`.
    pub real_servers: u32,
    /// `fragments`.
    pub fragments: u32,
    /// Buckets of `sessions_v4`.
    pub sessions_v4: u32,
    /// Buckets of `sessions_v6`.
    pub sessions_v6: u32,
    /// Buckets of `sticky_v4` and of `sticky_v6`.
    pub sticky: u32,
}

impl Sizes {
    /// Slots of a directory for each virtual server that the limits allow: lists of ports take one each.
    const DIRECTORY_BUCKETS_PER_VIRTUAL_SERVER: u32 = 4;
    /// Blocks of predictor tables for each virtual server: 8,192 slots, enough for a new table beside the
    /// old one of 40 servers of equal weight.
    const TABLE_BLOCKS_PER_VIRTUAL_SERVER: u32 = 256;
    /// Blocks on top, for virtual servers with very many servers: 2 million slots.
    const EXTRA_TABLE_BLOCKS: u32 = 65_536;
    /// Bindings for each virtual server.
    const BINDINGS_PER_VIRTUAL_SERVER: u32 = 32;
    /// Bindings for each real server, so that a few virtual servers can bind all.
    const BINDINGS_PER_REAL_SERVER: u32 = 4;
    /// Interfaces that a balancer can have: so few that nearly always each finds a place in the map.
    pub const INTERFACES: u32 = 256;
    /// Fragmented datagrams on their way at one time.
    const FRAGMENTS: u32 = 16_384;

    /// The sizes that follow from the configuration's limits.
    pub fn new(limits: &Limits) -> Self {
        let virtual_servers = limits.virtual_servers;
        let buckets = virtual_servers * Self::DIRECTORY_BUCKETS_PER_VIRTUAL_SERVER;
        Self {
            vip_buckets: 2 * buckets.next_power_of_two(),
            vips: 2 * (virtual_servers + 1),
            port_ranges: 2 * virtual_servers,
            // A renamed one, or all of them, is written beside the old one.
            virtual_servers: 2 * virtual_servers + 1,
            table_blocks: virtual_servers * Self::TABLE_BLOCKS_PER_VIRTUAL_SERVER
                + Self::EXTRA_TABLE_BLOCKS,
            bindings: virtual_servers * Self::BINDINGS_PER_VIRTUAL_SERVER
                + limits.real_servers * Self::BINDINGS_PER_REAL_SERVER,
            // Each may be reached with and without an outer header, and a changed entry is written beside the
            // old one.
            real_servers: 2 * 2 * limits.real_servers + 1,
            fragments: Self::FRAGMENTS,
            sessions_v4: buckets_for(limits.sessions),
            sessions_v6: buckets_for(limits.sessions_v6),
            sticky: buckets_for(limits.sticky),
        }
    }

    /// Four virtual servers, four real servers, and tables of sessions that fill up at once.
    #[cfg(test)]
    pub fn few() -> Self {
        Self {
            sessions_v4: 8,
            sessions_v6: 8,
            sticky: 8,
            ..Self::new(&Limits {
                virtual_servers: 4,
                real_servers: 4,
                ..Limits::DEFAULT
            })
        }
    }
}

/// The arrays that packets follow. The maps of the same names are described in `lb_common`.
pub struct Tables {
    /// One entry.
    pub control: Array<Control>,
    /// Two halves.
    pub vip_buckets: Array<VipBucket>,
    /// Two halves.
    pub vips: Array<Vip>,
    /// Two halves.
    pub port_ranges: Array<PortRange>,
    /// By virtual-server id.
    pub virtual_servers: Array<VirtualServer>,
    /// Cut up by [`crate::control`].
    pub predictor_tables: Array<TableBlock>,
    /// Cut up by [`crate::control`].
    pub bindings: Array<Binding>,
    /// Handed out by [`crate::control`].
    pub real_servers: Array<RealServer>,
    /// By [`Interface::place`].
    pub interfaces: Array<Interface>,
    /// By virtual-server id. No packet looks there.
    pub unbound_counters: Array<Counters>,
    /// What packets leave there.
    pub sessions: Arc<SessionTables>,
}

impl Tables {
    /// Writes down the layout of the maps, for versions to come.
    pub fn set_layout(&self) {
        let before = self.control.get(0);
        let layout = LAYOUT;
        self.control.set(0, Control { layout, ..before });
    }

    /// Makes the secrets that keep others from finding flows that share buckets. Those that are there stay: sessions are
    /// found by them.
    ///
    /// # Errors
    ///
    /// If the kernel has no random number.
    pub fn make_secrets(&self) -> Result<(), getrandom::Error> {
        let before = self.control.get(0);
        // A daemon that was killed may have made one alone.
        if before.secrets.contains(&0) {
            let secrets = [getrandom::u64()? | 1, getrandom::u64()? | 1];
            self.control.set(0, Control { secrets, ..before });
        }
        Ok(())
    }

    /// Tells packets how to tell the time.
    pub fn set_clock(&self, clock: Clock) {
        let before = self.control.get(0);
        self.control.set(0, Control { clock, ..before });
    }

    /// Tells packets how large the session tables are, and how many sessions they may begin.
    ///
    /// Packets are not disturbed: what was said before is the same, but for the number of new sessions.
    pub fn set_limits(&self, limits: &Limits) {
        let before = self.control.get(0);
        let sessions = &self.sessions;
        self.control.set(
            0,
            Control {
                sessions: lb_common::SessionTables {
                    sessions_v4: sessions.sessions_v4.len(),
                    sessions_v6: sessions.sessions_v6.len(),
                    sticky_v4: sessions.sticky_v4.len(),
                    sticky_v6: sessions.sticky_v6.len(),
                },
                new_sessions: Budget::in_window(limits.cps_per_cpu),
                ..before
            },
        );
    }

    /// Tables that no kernel program reads, to try things out on.
    pub fn anonymous(sizes: &Sizes) -> io::Result<Self> {
        Ok(Self {
            control: Array::anonymous(1)?,
            vip_buckets: Array::anonymous(sizes.vip_buckets)?,
            vips: Array::anonymous(sizes.vips)?,
            port_ranges: Array::anonymous(sizes.port_ranges)?,
            virtual_servers: Array::anonymous(sizes.virtual_servers)?,
            predictor_tables: Array::anonymous(sizes.table_blocks)?,
            bindings: Array::anonymous(sizes.bindings)?,
            real_servers: Array::anonymous(sizes.real_servers)?,
            interfaces: Array::anonymous(Interface::SLOTS)?,
            unbound_counters: Array::anonymous(sizes.virtual_servers)?,
            sessions: Arc::new(SessionTables::anonymous(sizes)?),
        })
    }
}
