//! What the decapsulator for real servers and `lb decap` agree on. The program has these maps, for one
//! interface:
//!
//! - `local_addresses`, a hash: the keys are the addresses of this host, as [`Address`]
//! - `allowed_sources`, a trie: the keys are the prefixes that outer sources may have, as [`prefix`] makes
//!   them; the longest that matches counts
//! - `counters`, per CPU: [`DecapsulatorCounters`]
//!
//! The values of the first two have no meaning.

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

use crate::{Address, Traffic};

/// How many addresses a host may have.
pub const MAX_LOCAL_ADDRESSES: u32 = 8192;
/// How many prefixes may be allowed.
pub const MAX_ALLOWED_SOURCES: u32 = 4096;

/// A prefix as `allowed_sources` has it: how many bits of the address count, and the address. `::/0` is
/// every address of both families, because IPv4 addresses are mapped into IPv6.
pub fn prefix(address: IpAddr, length: u8) -> (u32, Address) {
    const IPV4_MAPPED: u32 = 96;
    let mapped = if address.is_ipv4() { IPV4_MAPPED } else { 0 };
    (mapped + u32::from(length), address.into())
}

/// The only value of the map `counters`: what became of the IP-in-IP packets that were sent to an address of
/// this host. Those that passed went on to the kernel as they were.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DecapsulatorCounters {
    /// Their bytes count as received, Ethernet and outer IP header included.
    pub decapsulated: Traffic,
    /// [`PassReason::OuterFragment`].
    pub passed_outer_fragment: u64,
    /// [`PassReason::SourceNotAllowed`].
    pub passed_source_not_allowed: u64,
    /// [`PassReason::DestinationNotLocal`].
    pub passed_destination_not_local: u64,
    /// [`PassReason::MalformedInner`].
    pub passed_malformed_inner: u64,
    /// [`Fate::Congested`].
    pub dropped_congestion: u64,
}

/// What becomes of an IP-in-IP packet that was sent to an address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The outer header was taken off, and the kernel gets what was inside.
    Decapsulated,
    /// The kernel gets it as it is.
    Passed(PassReason),
    /// Dropped: a router marked the outer packet for congestion, and the inner one can't carry the mark
    /// (RFC 6040 section 4.2).
    Congested,
}

/// Why an IP-in-IP packet is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// The outer packet is a fragment.
    OuterFragment,
    /// The outer source is in none of the allowed prefixes.
    SourceNotAllowed,
    /// The inner destination is not an address of this host.
    DestinationNotLocal,
    /// There is no whole IP packet of the right version inside.
    MalformedInner,
}

impl DecapsulatorCounters {
    /// Counts a frame of so many bytes.
    #[inline(always)]
    pub fn count(&mut self, fate: Fate, bytes: u64) {
        match fate {
            Fate::Decapsulated => {
                self.decapsulated.packets += 1;
                self.decapsulated.bytes += bytes;
            }
            Fate::Passed(PassReason::OuterFragment) => self.passed_outer_fragment += 1,
            Fate::Passed(PassReason::SourceNotAllowed) => self.passed_source_not_allowed += 1,
            Fate::Passed(PassReason::DestinationNotLocal) => self.passed_destination_not_local += 1,
            Fate::Passed(PassReason::MalformedInner) => self.passed_malformed_inner += 1,
            Fate::Congested => self.dropped_congestion += 1,
        }
    }

    /// How many packets passed, by the name of the reason.
    pub const fn passed(&self) -> [(&'static str, u64); 4] {
        [
            ("outer_fragment", self.passed_outer_fragment),
            ("source_not_allowed", self.passed_source_not_allowed),
            ("destination_not_local", self.passed_destination_not_local),
            ("malformed_inner", self.passed_malformed_inner),
        ]
    }

    /// How many packets were dropped, by the name of the reason.
    pub const fn dropped(&self) -> [(&'static str, u64); 1] {
        [("congestion", self.dropped_congestion)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_prefix_is_mapped_into_ipv6() {
        let address: IpAddr = "10.9.0.0".parse().unwrap();
        assert_eq!(prefix(address, 16), (96 + 16, address.into()));
        let address: IpAddr = "2001:db8::".parse().unwrap();
        assert_eq!(prefix(address, 32), (32, address.into()));
    }

    #[test]
    fn every_fate_has_a_counter_of_its_own() {
        let mut counters = DecapsulatorCounters::default();
        counters.count(Fate::Decapsulated, 100);
        let passed = [
            PassReason::OuterFragment,
            PassReason::SourceNotAllowed,
            PassReason::DestinationNotLocal,
            PassReason::MalformedInner,
        ];
        for (times, reason) in (2..).zip(passed) {
            (0..times).for_each(|_| counters.count(Fate::Passed(reason), 100));
        }
        (0..6).for_each(|_| counters.count(Fate::Congested, 100));
        let expected = Traffic {
            packets: 1,
            bytes: 100,
        };
        assert_eq!(counters.decapsulated, expected);
        assert_eq!(counters.passed().map(|(_, count)| count), [2, 3, 4, 5]);
        assert_eq!(counters.dropped().map(|(_, count)| count), [6]);
    }
}
