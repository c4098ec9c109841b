//! A real server, as a packet sees it.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Name};

/// Value of the map `real_servers`: all that forwarding needs, in one cache line, ready to be copied
/// into the packet. An entry is not changed while a [`crate::Binding`] leads to it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct RealServer {
    /// The server's MAC address.
    pub destination_mac: [u8; 6],
    /// The MAC address of the interface that leads to the server. Follows `destination_mac` as it
    /// does in an Ethernet header.
    pub source_mac: [u8; 6],
    /// Index of that interface.
    pub ifindex: u32,
    /// The server's address.
    pub address: Address,
    /// Zeros, up to the end of the cache line.
    pub reserved: [u8; 32],
    /// Its name in the configuration. No packet reads it.
    pub name: Name,
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
