//! The interfaces that the balancer is attached to.
//!
//! A hash table in an array of [`Interface::SLOTS`] entries: an interface stands at its index modulo the size, or in one of the
//! places behind it.

use bytemuck::{Pod, Zeroable};

/// Value of the map `interfaces`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Interface {
    /// The interface's index; 0 if there is none here.
    pub ifindex: u32,
    /// The MAC address that VIPs are answered with.
    pub mac: [u8; 6],
    /// Zeros.
    pub reserved: [u8; 6],
}

impl Interface {
    /// Entries of the map.
    pub const SLOTS: u32 = 1024;
    /// Places where an interface may stand.
    pub const PLACES: u32 = 4;

    /// The MAC address as a machine word and half a one, as loaded from memory.
    #[inline(always)]
    pub fn mac_words(&self) -> (u32, u16) {
        let words: &[u32; 4] = bytemuck::cast_ref(self);
        let halves: &[u16; 8] = bytemuck::cast_ref(self);
        (words[1], halves[4])
    }

    /// Where an interface may stand.
    #[inline(always)]
    pub const fn place(ifindex: u32, number: u32) -> u32 {
        ifindex.wrapping_add(number) % Self::SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_words() {
        assert_eq!(size_of::<Interface>(), 16);
    }

    #[test]
    fn a_mac_address_has_the_words_that_a_packet_gives() {
        let interface = Interface {
            ifindex: 7,
            mac: [2, 3, 4, 5, 6, 7],
            reserved: [0; 6],
        };
        let words = (u32::from_ne_bytes([2, 3, 4, 5]), u16::from_ne_bytes([6, 7]));
        assert_eq!(interface.mac_words(), words);
    }

    #[test]
    fn every_place_is_in_the_map() {
        for ifindex in [1, 1023, 1024, u32::MAX] {
            let places = [0, 1, 2, 3].map(|number| Interface::place(ifindex, number));
            assert!(places.iter().all(|&place| place < Interface::SLOTS));
            assert_ne!(places[0], places[3]);
        }
    }
}
