//! What is told of a traced packet, and which packets are traced.

use bytemuck::{Pod, Zeroable};

use crate::{Address, DropReason, Name};

/// Value of the map `trace_filter`: the packets that are traced. All that it asks for must hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TraceFilter {
    /// Sent to this VIP; zeros for any.
    pub vip: Address,
    /// From clients whose address has these bits, of those in `client_mask`.
    pub client: Address,
    /// Zeros for any client.
    pub client_mask: Address,
    /// To the real server with this address; zeros for any.
    pub real_address: Address,
    /// Of this virtual server; zeros for any.
    pub virtual_server: Name,
    /// To this real server; zeros for any.
    pub real_server: Name,
    /// One packet in so many, by chance; 0 for none.
    pub sample: u32,
    /// The first bytes of a packet that are told, [`TraceEvent::MOST_BYTES`] at most.
    pub snap: u32,
    /// Unless it is 0: only what counts as a drop.
    pub drops: u32,
    /// Zero.
    pub reserved: u32,
}

impl TraceFilter {
    /// Every packet for a VIP.
    pub fn all(snap: u32) -> Self {
        Self {
            sample: 1,
            snap,
            ..Self::zeroed()
        }
    }

    /// Whether a packet is among those, but for the sampling.
    #[inline(always)]
    pub fn wants(&self, event: &TraceEvent) -> bool {
        let is = |wanted: Address, found: Address| {
            wanted.words() == [0, 0] || wanted.words() == found.words()
        };
        let ([client, host], [mask, host_mask]) = (event.client.words(), self.client_mask.words());
        is(self.vip, event.vip)
            && [client & mask, host & host_mask] == self.client.words()
            && is(self.real_address, event.real_address)
            && (self.virtual_server.is_empty() || self.virtual_server.is(&event.virtual_server))
            && (self.real_server.is_empty() || self.real_server.is(&event.real_server))
            && (self.drops == 0 || event.drop_reason != 0)
    }
}

/// What the map `trace_events` tells of a packet. The first `captured` bytes of the packet follow, as it was received.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TraceEvent {
    /// When it came: nanoseconds of the monotonic clock.
    pub time: u64,
    /// Who sent it; of an ICMP error, the client of the flow that it is about.
    pub client: Address,
    /// The VIP.
    pub vip: Address,
    /// The address of the real server that it goes to; zeros if it goes to none.
    pub real_address: Address,
    /// The name of its virtual server; zeros if it is of none.
    pub virtual_server: Name,
    /// The name of that real server.
    pub real_server: Name,
    /// Index of the interface that it came in by.
    pub ifindex: u32,
    /// The CPU that it was received on.
    pub cpu: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes of it that follow.
    pub captured: u32,
    /// If it counts as a drop, 1 more than the [`DropReason`].
    pub drop_reason: u32,
    /// The client's port; 0 if there is none.
    pub client_port: u16,
    /// The VIP's port; 0 if there is none.
    pub vip_port: u16,
    /// A [`TraceVerdict`].
    pub verdict: u8,
    /// A [`TracedPacket`]; 0 of what isn't for a VIP.
    pub packet: u8,
    /// A [`TraceSession`]; 0 of what got no further than that.
    pub session: u8,
    /// The flags of its TCP header.
    pub tcp_flags: u8,
    /// Zeros.
    pub reserved: [u8; 4],
}

impl TraceEvent {
    /// Most bytes of a packet that can follow: more than the frames of any common MTU have.
    pub const MOST_BYTES: usize = 16_384;

    /// The event of a packet that nothing is known of yet.
    #[inline(always)]
    pub fn new(time: u64, ifindex: u32, cpu: u32, length: u32, captured: u32) -> Self {
        Self {
            time,
            ifindex,
            cpu,
            length,
            captured,
            ..Self::zeroed()
        }
    }

    /// Why it counts as a drop, if it does.
    pub const fn drop_reason(&self) -> Option<DropReason> {
        DropReason::at(self.drop_reason.wrapping_sub(1))
    }
}

/// Value of the per-CPU map `trace_record`: an event in the making.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct TraceRecord {
    /// The event.
    pub event: TraceEvent,
    /// What follows it.
    pub bytes: [u8; TraceEvent::MOST_BYTES],
}

/// An enumeration that is a byte of [`TraceEvent`], with the names that users read.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$variant_doc])* $variant = $value,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The one with this value.
            pub const fn at(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// As `lb trace` names it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

named! {
    /// What became of a packet.
    TraceVerdict {
        /// It went to a real server.
        Forwarded = 1 "forwarded",
        /// It became an answer to who sent it.
        Answered = 2 "answered",
        /// It was dropped.
        Dropped = 3 "dropped",
        /// The kernel got it, untouched.
        Passed = 4 "passed",
    }
}

named! {
    /// What a packet is.
    TracedPacket {
        /// A TCP segment, or the first fragment of one.
        Tcp = 1 "tcp",
        /// A UDP datagram, or its first fragment.
        Udp = 2 "udp",
        /// A later fragment: its ports are not known.
        Fragment = 3 "fragment",
        /// An ICMP error about what a real server sent.
        IcmpError = 4 "icmp_error",
        /// An echo request.
        Echo = 5 "echo",
        /// An ARP request.
        Arp = 6 "arp",
        /// A neighbour solicitation.
        NeighborSolicitation = 7 "neighbor",
    }
}

named! {
    /// How its real server was chosen.
    TraceSession {
        /// It belongs to a session.
        Existing = 1 "existing",
        /// It begins a session; the predictor chose.
        New = 2 "new",
        /// It begins a session; the client stays on the server that it was on before.
        Sticky = 3 "sticky",
        /// It begins a session, in mid-stream; the hash chose.
        MidStream = 4 "mid_stream",
        /// Its session moves, because the real server that it was on is down.
        Moved = 5 "moved",
        /// It has no session: the hash chose.
        TableOnly = 6 "table_only",
        /// As the first fragment of its datagram.
        FirstFragment = 7 "first_fragment",
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn the_layout_has_no_holes_and_is_aligned_to_words() {
        assert_eq!(
            (size_of::<TraceEvent>(), align_of::<TraceEvent>()),
            (216, 8)
        );
        assert_eq!(
            (size_of::<TraceFilter>(), align_of::<TraceFilter>()),
            (208, 8)
        );
        assert_eq!(
            size_of::<TraceRecord>(),
            size_of::<TraceEvent>() + TraceEvent::MOST_BYTES
        );
        // The kernel has no larger per-CPU memory (mm/percpu.c, PCPU_MIN_UNIT_SIZE).
        assert!(size_of::<TraceRecord>() <= 32 << 10);
    }

    #[test]
    fn every_name_stands_for_its_value_and_none_for_zero() {
        for &verdict in TraceVerdict::ALL {
            assert_eq!(TraceVerdict::at(verdict as u8), Some(verdict));
        }
        for &packet in TracedPacket::ALL {
            assert_eq!(TracedPacket::at(packet as u8), Some(packet));
        }
        for &session in TraceSession::ALL {
            assert_eq!(TraceSession::at(session as u8), Some(session));
        }
        assert_eq!(TraceVerdict::at(0), None);
        assert_eq!(TracedPacket::at(0), None);
        assert_eq!(TraceSession::at(0), None);
    }

    #[test]
    fn a_filter_wants_what_all_of_it_holds_for() {
        let address = |last| Address::from(IpAddr::from(Ipv4Addr::new(10, 9, 0, last)));
        let event = TraceEvent {
            client: address(100),
            vip: address(1),
            real_address: address(11),
            virtual_server: Name::new("shop").unwrap(),
            real_server: Name::new("web-1").unwrap(),
            drop_reason: DropReason::TooBig as u32 + 1,
            ..TraceEvent::zeroed()
        };
        assert_eq!(event.drop_reason(), Some(DropReason::TooBig));
        assert_eq!(TraceEvent::zeroed().drop_reason(), None);
        let all = TraceFilter::all(128);
        let prefix = |address: Address, bits: u32| TraceFilter {
            client: address,
            client_mask: Address::from_words([u64::MAX, u64::MAX >> (32 - bits)]),
            ..all
        };
        for wanted in [
            all,
            TraceFilter {
                vip: event.vip,
                ..all
            },
            TraceFilter {
                real_address: event.real_address,
                ..all
            },
            TraceFilter {
                virtual_server: event.virtual_server,
                ..all
            },
            TraceFilter {
                real_server: event.real_server,
                ..all
            },
            TraceFilter { drops: 1, ..all },
            prefix(event.client, 32),
            prefix(address(0), 24),
        ] {
            assert!(wanted.wants(&event), "{wanted:?}");
        }
        let other = Name::new("shop6").unwrap();
        for unwanted in [
            TraceFilter {
                vip: address(2),
                ..all
            },
            TraceFilter {
                real_address: address(12),
                ..all
            },
            TraceFilter {
                virtual_server: other,
                ..all
            },
            TraceFilter {
                real_server: other,
                ..all
            },
            prefix(address(101), 32),
            prefix(address(0), 32),
        ] {
            assert!(!unwanted.wants(&event), "{unwanted:?}");
        }
        let forwarded = TraceEvent {
            drop_reason: 0,
            ..event
        };
        assert!(!TraceFilter { drops: 1, ..all }.wants(&forwarded));
    }
}
