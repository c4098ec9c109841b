//! An IP address of either family.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

/// An IPv6 address, or an IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2),
/// in network byte order. All zeros is no address.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address {
    octets: [u8; 16],
}

/// What a packet compares and hashes: an [`Address`] as two machine words, as loaded from memory.
pub type AddressWords = [u64; 2];

impl Address {
    /// The address as two machine words.
    #[inline(always)]
    pub fn words(&self) -> AddressWords {
        bytemuck::cast(self.octets)
    }

    /// The words of an IPv4 address, given its four bytes as a machine word loads them from a packet.
    #[inline(always)]
    pub const fn ipv4_words(loaded: u32) -> AddressWords {
        const { assert!(cfg!(target_endian = "little")) };
        [0, (loaded as u64) << 32 | 0xffff_0000]
    }

    /// The four bytes of an IPv4 address, as a machine word loads them.
    #[inline(always)]
    pub fn ipv4_loaded(&self) -> u32 {
        let [.., loaded]: [u32; 4] = bytemuck::cast(self.octets);
        loaded
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub fn is_ipv4(&self) -> bool {
        Self::words_are_ipv4(self.words())
    }

    /// Whether `words` are those of an IPv4 address.
    #[inline(always)]
    pub const fn words_are_ipv4(words: AddressWords) -> bool {
        words[0] == 0 && words[1] as u32 == 0xffff_0000
    }

    /// The address that `words` came from.
    pub fn from_words(words: AddressWords) -> Self {
        bytemuck::cast(words)
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        address.to_ipv6_mapped().into()
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self {
            octets: address.octets(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Ipv6Addr::from(address.octets).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_has_the_words_that_a_packet_gives() {
        let address = Ipv4Addr::new(10, 9, 1, 1);
        let loaded = u32::from_ne_bytes(address.octets());
        let words = Address::ipv4_words(loaded);
        assert_eq!(words, Address::from(address).words());
        assert!(Address::words_are_ipv4(words));
        assert_eq!(Address::from(address).ipv4_loaded(), loaded);
        assert_eq!(
            IpAddr::from(Address::from_words(words)),
            IpAddr::V4(address)
        );
    }

    #[test]
    fn an_ipv6_address_survives_the_way_to_words_and_back() {
        let address: Ipv6Addr = "2001:db8::13".parse().unwrap();
        let words = Address::from(address).words();
        assert!(!Address::words_are_ipv4(words));
        assert_eq!(
            IpAddr::from(Address::from_words(words)),
            IpAddr::V6(address)
        );
    }
}
