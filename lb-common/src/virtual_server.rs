//! A virtual server, as a packet sees it.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Name};

/// Value of the map `virtual_servers`. What a packet reads is one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct VirtualServer {
    /// The predictor table in use.
    pub table: PredictorTable,
    /// Index in `bindings` of the binding with offset 0.
    pub first_binding: u32,
    /// A [`Forward`], for who reads the map. No packet reads it.
    pub forward: u8,
    /// A [`Predictor`].
    pub predictor: u8,
    /// An IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// The VIP, for who reads the map.
    pub vip: Address,
    /// Room for this many bindings from `first_binding` on. No packet reads it.
    pub binding_capacity: u32,
    /// Zeros, up to the end of the cache line.
    pub reserved_line: [u8; 28],
    /// Its name in the configuration. No packet reads it.
    pub name: Name,
}

/// Where a virtual server's predictor table lies in `predictor_tables`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct PredictorTable {
    /// Index of its first block.
    pub first_block: u32,
    /// Number of its slots; 0 if no real server is up.
    pub slots: u32,
}

impl PredictorTable {
    /// Reads the pointer in one load, so that it is never half of an old one.
    #[inline(always)]
    pub fn load(&self) -> Self {
        // SAFETY: `self` is a valid reference, 8 bytes long and aligned to 8.
        bytemuck::cast(unsafe { core::ptr::from_ref(self).cast::<u64>().read_volatile() })
    }

    /// The block and the slot in it of the table's slot `index`.
    #[inline(always)]
    pub const fn position(self, index: u32) -> (u32, usize) {
        (
            self.first_block + index / TableBlock::SLOTS as u32,
            index as usize % TableBlock::SLOTS,
        )
    }
}

/// Value of the map `predictor_tables`: one cache line of a predictor table.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TableBlock {
    /// Bindings, as offsets from [`VirtualServer::first_binding`].
    pub slots: [u16; TableBlock::SLOTS],
}

impl TableBlock {
    /// Slots in a block.
    pub const SLOTS: usize = 32;
}

/// How packets are forwarded to the real server.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// By rewriting the MAC addresses.
    L2Dsr = 1,
    /// Inside an outer IP header (RFC 2003, RFC 2473, RFC 4213).
    L3Dsr = 2,
}

/// How a flow picks its real server.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predictor {
    /// Maglev over the flow.
    Hash = 1,
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn what_a_packet_reads_is_one_cache_line() {
        assert_eq!(offset_of!(VirtualServer, name), 64);
        assert_eq!(
            (size_of::<VirtualServer>(), align_of::<VirtualServer>()),
            (128, 64)
        );
        assert_eq!(
            (size_of::<TableBlock>(), align_of::<TableBlock>()),
            (64, 64)
        );
    }

    #[test]
    fn the_table_pointer_is_replaced_in_one_store() {
        assert_eq!(
            (size_of::<PredictorTable>(), align_of::<PredictorTable>()),
            (8, 8)
        );
        let table = PredictorTable {
            first_block: 3,
            slots: 65_537,
        };
        assert_eq!(table.load(), table);
    }

    #[test]
    fn a_table_fills_its_blocks_one_after_the_other() {
        let table = PredictorTable {
            first_block: 10,
            slots: 100,
        };
        assert_eq!(table.position(0), (10, 0));
        assert_eq!(table.position(31), (10, 31));
        assert_eq!(table.position(32), (11, 0));
        assert_eq!(table.position(99), (13, 3));
    }
}
