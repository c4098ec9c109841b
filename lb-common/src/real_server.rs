//! A real server, as a packet sees it.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Name};

/// The smallest MTU that an IPv4 packet may be held to: an ICMP error quotes that much of it (RFC 1812 section
/// 4.3.2.3).
pub const LEAST_MTU_V4: u32 = 576;
/// The smallest MTU of IPv6 (RFC 8200 section 5).
pub const LEAST_MTU_V6: u32 = 1280;
/// The largest total length that an IPv4 header can say (RFC 791 section 3.1): no packet with an outer header is larger.
pub const MOST_MTU: u32 = 65_535;
/// Bytes of an outer IPv4 header: it has no options (RFC 791 section 3.1).
pub const OUTER_V4: u32 = 20;
/// Bytes of an outer IPv6 header (RFC 8200 section 3).
pub const OUTER_V6: u32 = 40;

/// Value of the map `real_servers`: all that forwarding needs, in one cache line, ready to be copied
/// into the packet. An entry is not changed while a [`crate::Binding`] leads to it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct RealServer {
    /// The MAC address of the server, or of the router in between.
    pub destination_mac: [u8; 6],
    /// The MAC address of the interface that leads to the server. Follows `destination_mac` as it
    /// does in an Ethernet header.
    pub source_mac: [u8; 6],
    /// Index of that interface.
    pub ifindex: u32,
    /// The server's address.
    pub address: Address,
    /// Source address of the outer header, of the family of `address`. All zeros for L2 DSR, which
    /// has none.
    pub outer_source: Address,
    /// Those bits of the last four bytes of `outer_source`, as they lie in memory, that the hash of the flow
    /// sets, so that the flows to one server differ for receive-side scaling.
    pub outer_source_spread: u32,
    /// The largest IP packet, outer header included, that the way to the server carries; in bytes.
    pub mtu: u32,
    /// Bytes of the outer header: 0, [`OUTER_V4`] or [`OUTER_V6`].
    pub outer_header: u32,
    /// Zeros, up to the end of the cache line.
    pub reserved: [u8; 4],
    /// Its name in the configuration. No packet reads it.
    pub name: Name,
}

impl RealServer {
    /// Both MAC addresses, as the words at the beginning of an Ethernet header.
    #[inline(always)]
    pub fn macs(&self) -> (u64, u32) {
        let words: &[u64; size_of::<Self>() / 8] = bytemuck::cast_ref(self);
        (words[0], words[1] as u32)
    }

    /// The source MAC address as half a machine word and a whole one, as loaded from memory.
    #[inline(always)]
    pub fn source_mac_words(&self) -> (u16, u32) {
        let halves: &[u16; size_of::<Self>() / 2] = bytemuck::cast_ref(self);
        let words: &[u32; size_of::<Self>() / 4] = bytemuck::cast_ref(self);
        (halves[3], words[2])
    }

    /// Whether packets go to it inside an outer header. Told by this entry alone, because a packet that comes
    /// while [`crate::VirtualServer::forward`] changes may find the entry that was, or the one that will be.
    #[inline(always)]
    pub fn has_outer_header(&self) -> bool {
        self.outer_header != 0
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn what_a_packet_reads_is_one_cache_line() {
        assert_eq!(offset_of!(RealServer, name), 64);
        assert_eq!(
            (size_of::<RealServer>(), align_of::<RealServer>()),
            (128, 64)
        );
    }

    #[test]
    fn the_macs_stand_as_in_an_ethernet_header() {
        assert_eq!(offset_of!(RealServer, destination_mac), 0);
        assert_eq!(offset_of!(RealServer, source_mac), 6);
    }
}
