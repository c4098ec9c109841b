//! Where the fragments of a datagram go.

use bytemuck::{Pod, Zeroable};

use crate::{Address, address::AddressWords};

/// Key of the map `fragments`: what the fragments of one datagram have in common (RFC 791 section 3.2, RFC
/// 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Datagram {
    /// The client.
    pub source: Address,
    /// The VIP.
    pub destination: Address,
    /// The identification, as it lies in the packet; 16 bits of it in IPv4.
    pub identification: u32,
    /// The IP protocol number; 0 in IPv6, where it does not tell datagrams apart.
    pub protocol: u32,
}

impl Datagram {
    /// The key of a packet's fields.
    #[inline(always)]
    pub fn new(
        source: AddressWords,
        destination: AddressWords,
        identification: u32,
        protocol: u8,
    ) -> Self {
        Self {
            source: Address::from_words(source),
            destination: Address::from_words(destination),
            identification,
            protocol: u32::from(protocol),
        }
    }
}

/// Value of the map `fragments`: what became of the first fragment. All zeros, but for the time, if it was
/// left to the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FirstFragment {
    /// When it was seen: nanoseconds of the monotonic clock.
    pub seen: u64,
    /// Index in `virtual_servers`.
    pub virtual_server: u32,
    /// Offset of the binding from [`crate::VirtualServer::first_binding`].
    pub binding: u32,
}

impl FirstFragment {
    /// How long the others may come after it, in nanoseconds: as long as Linux waits for them before it gives
    /// the datagram up (net.ipv4.ipfrag_time).
    pub const LIFETIME: u64 = 30_000_000_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_has_no_padding_that_would_differ() {
        assert_eq!(size_of::<Datagram>(), 40);
        assert_eq!(size_of::<FirstFragment>(), 16);
    }
}
