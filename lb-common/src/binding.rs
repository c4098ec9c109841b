//! A real server bound to a virtual server.

use bytemuck::{Pod, Zeroable};

/// Value of the map `bindings`. A virtual server's bindings stand side by side, from
/// [`crate::VirtualServer::first_binding`] on; its predictor table and its sessions name them by their
/// offset from there.
///
/// Eight bytes, so that user space replaces one in a single store.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Binding {
    /// Index in `real_servers`; 0 if there is none. As it is, because a packet looks up what lies at this address.
    pub real_server: u32,
    /// Index in `binding_counters` and `active_sessions`, with [`Self::DOWN`] or [`Self::DRAINING`] added.
    pub counters: u32,
}

impl Binding {
    /// Sessions must leave it.
    pub const DOWN: u32 = 1 << 31;
    /// It keeps its sessions and gets no new ones.
    pub const DRAINING: u32 = 1 << 30;

    /// Index in `binding_counters` and `active_sessions`.
    #[inline(always)]
    pub const fn counters_index(self) -> u32 {
        self.counters & !(Self::DOWN | Self::DRAINING)
    }

    /// [`Self::DOWN`], [`Self::DRAINING`].
    #[inline(always)]
    pub const fn flags(self) -> u32 {
        self.counters & (Self::DOWN | Self::DRAINING)
    }

    /// Whether sessions must leave it.
    #[inline(always)]
    pub const fn is_down(self) -> bool {
        self.counters & Self::DOWN != 0
    }

    /// Whether sessions may stay.
    #[inline(always)]
    pub const fn keeps_sessions(self) -> bool {
        self.real_server != 0 && !self.is_down()
    }

    /// Whether new sessions may come.
    #[inline(always)]
    pub const fn takes_sessions(self) -> bool {
        self.counters & Self::DRAINING == 0 && self.keeps_sessions()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_tells_who_may_come_and_stay() {
        let binding = |real_server, flags| Binding {
            real_server,
            counters: 1 | flags,
        };
        for (flags, keeps, takes) in [
            (0, true, true),
            (Binding::DRAINING, true, false),
            (Binding::DOWN, false, false),
            (Binding::DOWN | Binding::DRAINING, false, false),
        ] {
            let binding = binding(7, flags);
            assert_eq!((binding.counters_index(), binding.flags()), (1, flags));
            assert_eq!(
                (binding.keeps_sessions(), binding.takes_sessions()),
                (keeps, takes)
            );
        }
        assert!(!binding(0, 0).keeps_sessions());
    }
}
