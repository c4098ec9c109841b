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
    fn every_place_is_in_the_map() {
        for ifindex in [1, 1023, 1024, u32::MAX] {
            let places = [0, 1, 2, 3].map(|number| Interface::place(ifindex, number));
            assert!(places.iter().all(|&place| place < Interface::SLOTS));
            assert_ne!(places[0], places[3]);
        }
    }
}
