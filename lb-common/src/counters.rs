//! What the program counts.

use bytemuck::{Pod, Zeroable};

/// Value of the per-CPU maps `virtual_server_counters` and `binding_counters`: what was forwarded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames as received, Ethernet header included.
    pub bytes: u64,
}

/// Why a packet was dropped: the index in the per-CPU map `drop_counters`, whose values are `u64`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The virtual server has no real server that is up.
    NoRealServer = 0,
}

impl DropReason {
    /// Every reason, in the order of the map.
    pub const ALL: [Self; 1] = [Self::NoRealServer];

    /// The reason as `lb status` and the metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRealServer => "no_real_server",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_reason_stands_at_its_own_index() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }
}
