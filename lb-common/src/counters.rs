//! What the program counts.

use bytemuck::{Pod, Zeroable};

/// Packets that went somewhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames as received, from the Ethernet header to the end of the IP packet.
    pub bytes: u64,
}

/// Value of the per-CPU map `binding_counters`, and of `unbound_counters`: by virtual server, what those bindings counted
/// that are no more. What a virtual server forwarded is the sum of both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames as received, from the Ethernet header to the end of the IP packet.
    pub bytes: u64,
    /// Sessions that began there.
    pub sessions: u64,
    /// Sessions of other bindings that moved there.
    pub moved: u64,
}

impl Counters {
    /// What both counted. Parts may be below zero: a CPU may have taken back what another one counted, and see [`Self::minus`].
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
            sessions: self.sessions.wrapping_add(other.sessions),
            moved: self.moved.wrapping_add(other.moved),
        }
    }

    /// What this one counted and the other one didn't.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_sub(other.packets),
            bytes: self.bytes.wrapping_sub(other.bytes),
            sessions: self.sessions.wrapping_sub(other.sessions),
            moved: self.moved.wrapping_sub(other.moved),
        }
    }
}

/// What happened to the session table: the index in the per-CPU map `session_events`, whose values are `u64`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A session made room for a new one before its time.
    Evicted = 0,
    /// A flow was forwarded by its hash without a session, because too many began.
    Unrecorded = 1,
}

impl SessionEvent {
    /// Every event, in the order of the map.
    pub const ALL: [Self; 2] = [Self::Evicted, Self::Unrecorded];

    /// The event as `lb status` and the metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Unrecorded => "unrecorded",
        }
    }
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
    /// A TCP packet in mid-stream without a session.
    UnknownSession = 6,
    /// As [`Self::UnknownSession`]; the client got a TCP RST.
    UnknownSessionReset = 7,
    /// A TCP packet of a session whose real server is down; the client got a TCP RST.
    ServerDownReset = 8,
}

impl DropReason {
    /// Every reason, in the order of the map.
    pub const ALL: [Self; 9] = [
        Self::NoRealServer,
        Self::MartianSource,
        Self::UnknownFragment,
        Self::TooBig,
        Self::TooBigUnanswered,
        Self::NoHeadroom,
        Self::UnknownSession,
        Self::UnknownSessionReset,
        Self::ServerDownReset,
    ];

    /// The reason at an index of the map.
    #[inline(always)]
    pub const fn at(index: u32) -> Option<Self> {
        Some(match index {
            0 => Self::NoRealServer,
            1 => Self::MartianSource,
            2 => Self::UnknownFragment,
            3 => Self::TooBig,
            4 => Self::TooBigUnanswered,
            5 => Self::NoHeadroom,
            6 => Self::UnknownSession,
            7 => Self::UnknownSessionReset,
            8 => Self::ServerDownReset,
            _ => return None,
        })
    }

    /// The reason as `lb status` and the metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRealServer => "no_real_server",
            Self::MartianSource => "martian_source",
            Self::UnknownFragment => "unknown_fragment",
            Self::TooBig => "too_big",
            Self::TooBigUnanswered => "too_big_unanswered",
            Self::NoHeadroom => "no_headroom",
            Self::UnknownSession => "unknown_session",
            Self::UnknownSessionReset => "unknown_session_reset",
            Self::ServerDownReset => "server_down_reset",
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
            assert_eq!(DropReason::at(index as u32), Some(reason));
        }
        assert_eq!(DropReason::at(DropReason::ALL.len() as u32), None);
    }

    #[test]
    fn every_session_event_stands_at_its_own_index() {
        for (index, event) in SessionEvent::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, index, "{}", event.name());
        }
    }
}
