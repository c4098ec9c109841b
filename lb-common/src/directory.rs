//! From VIP, protocol and port to a virtual server.
//!
//! The directory is a hash table in an array, built whole by user space. A key lies in one of two
//! buckets; a bucket is one cache line with room for two. Keys sit in their first bucket when they
//! can, and a bucket says whether any of its keys had to go to their second one, so that a packet
//! which is not for a VIP reads a single line, most often.
//!
//! Two kinds of key share the table: VIP + protocol + port, for exact ports, and the VIP alone (port and
//! protocol 0), which leads to the port ranges and to the virtual server for any port.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Clock, address::AddressWords, hash, session::Secrets};

/// The only entry of the map `control`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Control {
    /// The directory that packets use now.
    pub directory: Directory,
    /// The sizes of the session tables.
    pub sessions: SessionTables,
    /// New sessions that each CPU may record in each [`crate::Budget::WINDOW`].
    pub new_sessions: u32,
    /// [`crate::LAYOUT`] of the version of `lb` that made the maps. It stands here in every layout.
    pub layout: u32,
    /// Made with the maps: see [`crate::session::buckets`].
    pub secrets: Secrets,
    /// How packets tell the time.
    pub clock: Clock,
}

/// How many buckets the maps of the same names have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SessionTables {
    /// `sessions_v4`.
    pub sessions_v4: u32,
    /// `sessions_v6`.
    pub sessions_v6: u32,
    /// `sticky_v4`.
    pub sticky_v4: u32,
    /// `sticky_v6`.
    pub sticky_v6: u32,
}

/// Where the directory lies in `vip_buckets`. The map holds two: one in use, one to build the next in.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Directory {
    /// Index of its first bucket.
    pub first_bucket: u32,
    /// Number of its buckets, a power of two, less one.
    pub bucket_mask: u32,
}

impl Directory {
    /// The first and the second bucket of a key, as indices in `vip_buckets`.
    #[inline(always)]
    pub fn buckets(self, address: AddressWords, protocol: u8, port: u16) -> [u32; 2] {
        let key = [
            address[0],
            address[1],
            u64::from(port) << 8 | u64::from(protocol),
        ];
        let hash = hash::multilinear(key);
        [hash, hash::mix(hash, 0)]
            .map(|hash| self.first_bucket + ((hash >> 44) as u32 & self.bucket_mask))
    }

    /// Reads the directory in one load, so that it is never half of an old one.
    #[inline(always)]
    pub fn load(&self) -> Self {
        // SAFETY: `self` is a valid reference, 8 bytes long and aligned to 8.
        bytemuck::cast(unsafe { core::ptr::from_ref(self).cast::<u64>().read_volatile() })
    }
}

/// Value of the map `vip_buckets`: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct VipBucket {
    /// Free slots are all zeros.
    pub slots: [VipSlot; VipBucket::SLOTS],
    /// Not 0 if a key whose first bucket this is lies in its second one.
    pub spilled: u32,
    /// Zeros.
    pub reserved: [u32; 3],
}

impl VipBucket {
    /// Keys in a bucket.
    pub const SLOTS: usize = 2;
}

/// A key of the directory and what it leads to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct VipSlot {
    /// The VIP.
    pub address: Address,
    /// The port; 0 with protocol 0 for the VIP alone.
    pub port: u16,
    /// An IP protocol number; 0 for the VIP alone.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// Index in `virtual_servers`, or for the VIP alone in `vips`; 0 is a free slot.
    pub id: u32,
}

impl VipSlot {
    /// Whether this slot holds the given key. A free one holds `::` without protocol and port.
    #[inline(always)]
    pub fn holds(&self, address: AddressWords, protocol: u8, port: u16) -> bool {
        self.port == port && self.protocol == protocol && self.address.words() == address
    }
}

/// Value of the map `vips`: the ports of a VIP that are not in the directory one by one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Vip {
    /// The VIP, for who reads the map.
    pub address: Address,
    /// TCP.
    pub tcp: VipPorts,
    /// UDP.
    pub udp: VipPorts,
    /// Not 0 while a virtual server of this VIP is up.
    pub up: u32,
    /// Zero.
    pub reserved: u32,
}

/// The port ranges of a VIP, and the virtual server for any other port, for one protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct VipPorts {
    /// Index in `port_ranges` of the first range. They are sorted and do not overlap.
    pub first_range: u32,
    /// How many ranges.
    pub ranges: u32,
    /// The virtual server for any port; 0 is none.
    pub any: u32,
}

/// Value of the map `port_ranges`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// Index in `virtual_servers`.
    pub virtual_server: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<VipBucket>(), 64);
        assert_eq!(align_of::<VipBucket>(), 64);
        assert_eq!(size_of::<VipSlot>(), 24);
    }

    #[test]
    fn the_directory_is_replaced_in_one_store() {
        assert_eq!((size_of::<Directory>(), align_of::<Directory>()), (8, 8));
        let directory = Directory {
            first_bucket: 7,
            bucket_mask: 15,
        };
        assert_eq!(directory.load(), directory);
    }

    #[test]
    fn a_free_slot_holds_no_key_of_a_protocol() {
        assert!(!VipSlot::default().holds([0, 0], protocol::TCP, 0));
    }
}
