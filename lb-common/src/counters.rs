//! What the program counts.

use bytemuck::{Pod, Zeroable};

/// Value of the per-CPU maps `virtual_server_counters` and `binding_counters`: what was forwarded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames as received, from the Ethernet header to the end of the IP packet.
    pub bytes: u64,
}

/// Why a packet was dropped: the index in the per-CPU map `drop_counters`, whose values are `u64`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The virtual server has no real server that is up.
    NoRealServer = 0,
    /// No host sends from this source address: multicast, loopback, "this network" (RFC 1812 section
    /// 5.3.7) or the VIP itself.
    MartianSource = 1,
    /// A fragment whose datagram's first fragment has not been seen.
    UnknownFragment = 2,
    /// Longer than the MTU allows; the client was told so.
    TooBig = 3,
    /// As [`Self::TooBig`], but the client was not told: the limit on the rate of errors is reached, or the
    /// packet is not one to answer with an error (RFC 1812 section 4.3.2.7).
    TooBigUnanswered = 4,
    /// No room in front of the packet for an outer header.
    NoHeadroom = 5,
}

impl DropReason {
    /// Every reason, in the order of the map.
    pub const ALL: [Self; 6] = [
        Self::NoRealServer,
        Self::MartianSource,
        Self::UnknownFragment,
        Self::TooBig,
        Self::TooBigUnanswered,
        Self::NoHeadroom,
    ];

    /// The reason as `lb status` and the metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRealServer => "no_real_server",
            Self::MartianSource => "martian_source",
            Self::UnknownFragment => "unknown_fragment",
            Self::TooBig => "too_big",
            Self::TooBigUnanswered => "too_big_unanswered",
            Self::NoHeadroom => "no_headroom",
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
