//! A virtual server, as a packet sees it.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Name, session};

/// Value of the map `virtual_servers`. What a packet reads is one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct VirtualServer {
    /// The table that a hash chooses from.
    pub table: PredictorTable,
    /// For predictors that don't choose by hash: the order of a round robin in [`TableBlock`]s, or the [`Candidate`]s
    /// for the least connections. With [`Self::on_change`]: while it settles, the table that comes next.
    pub order: PredictorTable,
    /// Index in `bindings` of the binding with offset 0.
    pub first_binding: u32,
    /// Ticks that a session lives without traffic; 0 if there are no sessions: stateless.
    pub idle_timeout: u32,
    /// Ticks since its last use that a client stays on its real server; 0 if it does not.
    pub sticky_timeout: u32,
    /// A [`Forward`], for who reads the map. No packet reads it.
    pub forward: u8,
    /// A [`Predictor`].
    pub predictor: u8,
    /// An IP protocol number.
    pub protocol: u8,
    /// An [`OnUnknown`].
    pub on_unknown: u8,
    /// An [`OnDown`].
    pub on_down: u8,
    /// Leading bits of a client's address that sticky tells clients apart by, in the VIP's family.
    pub sticky_prefix: u8,
    /// Not 0 if only flows in marked slots ([`TableSlot::MARK`]) have sessions.
    pub on_change: u8,
    /// Zero.
    pub reserved: [u8; 1],
    /// Room for this many bindings from `first_binding` on. No packet reads it.
    pub binding_capacity: u32,
    /// The VIP, for who reads the map.
    pub vip: Address,
    /// Its own index.
    pub id: u32,
    /// Zeros, up to the end of the cache line.
    pub reserved_line: [u8; 4],
    /// Its name in the configuration. No packet reads it.
    pub name: Name,
}

impl VirtualServer {
    /// Whether flows begin sessions: always, or with [`Self::on_change`] while it settles.
    #[inline(always)]
    pub fn begins_sessions(&self) -> bool {
        self.on_change == 0 || self.order.load().slots != 0
    }

    /// The [`session::salt`] of its sessions.
    #[inline(always)]
    pub fn session_salt(&self) -> u64 {
        session::salt(self.vip.words(), self.protocol)
    }
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
    /// Each a [`TableSlot`].
    pub slots: [u16; TableBlock::SLOTS],
}

/// A slot of a predictor table: a binding, as its offset from [`VirtualServer::first_binding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSlot(pub u16);

impl TableSlot {
    /// Flows of the slot may have sessions, of a virtual server with [`VirtualServer::on_change`].
    pub const MARK: u16 = 1 << 15;
    /// The slot has no binding.
    pub const NONE: u16 = Self::MARK - 1;

    /// Whether it has the mark.
    #[inline(always)]
    pub const fn is_marked(self) -> bool {
        self.0 & Self::MARK != 0
    }

    /// The slot without the mark.
    #[inline(always)]
    pub const fn unmarked(self) -> Self {
        Self(self.0 & !Self::MARK)
    }

    /// The binding, if there is one.
    #[inline(always)]
    pub const fn binding(self) -> Option<u32> {
        match self.unmarked().0 {
            Self::NONE => None,
            binding => Some(binding as u32),
        }
    }
}

impl TableBlock {
    /// Slots in a block.
    pub const SLOTS: usize = 32;
}

/// A real server that may get the next session: four slots of a predictor table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Candidate {
    /// Index in `active_sessions` of the sessions that it has.
    pub counters: u32,
    /// The binding, as an offset from [`VirtualServer::first_binding`].
    pub binding: u16,
    /// Its weight; 0 is no candidate.
    pub weight: u16,
}

impl Candidate {
    /// Slots that one takes.
    pub const SLOTS: usize = size_of::<Self>() / size_of::<u16>();
}

impl TableBlock {
    /// Candidates in a block.
    pub const CANDIDATES: usize = Self::SLOTS / Candidate::SLOTS;

    /// The block as candidates.
    #[inline(always)]
    pub fn candidates(&self) -> &[Candidate; Self::CANDIDATES] {
        bytemuck::cast_ref(self)
    }
}

impl From<[Candidate; TableBlock::CANDIDATES]> for TableBlock {
    fn from(candidates: [Candidate; TableBlock::CANDIDATES]) -> Self {
        bytemuck::cast(candidates)
    }
}

/// What becomes of a TCP packet in mid-stream that has no session.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// The hash chooses its real server, and it has a session from then on.
    Forward = 0,
    /// The client gets a TCP RST.
    Reset = 1,
    /// It is dropped.
    Drop = 2,
}

/// What becomes of the sessions of a real server that is down, on their next packet.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They go on with another real server.
    Move = 0,
    /// They end: the client gets a TCP RST. UDP sessions go on with another real server, and so does a client that sends a
    /// SYN.
    Reset = 1,
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

/// How a new session picks its real server.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predictor {
    /// Maglev over the flow.
    Hash = 1,
    /// Maglev over the client's address.
    SourceHash = 2,
    /// One after the other.
    RoundRobin = 3,
    /// The one with the fewest active sessions, in relation to its weight.
    LeastConnection = 4,
    /// As [`Self::RoundRobin`], with weights that follow the latency of health checks.
    ResponseTime = 5,
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
    fn a_mark_leaves_the_binding_as_it_is() {
        for (slot, marked, binding) in [
            (0, false, Some(0)),
            (0xfff, false, Some(0xfff)),
            (0x8000, true, Some(0)),
            (0x8fff, true, Some(0xfff)),
            (TableSlot::NONE, false, None),
            (TableSlot::NONE | TableSlot::MARK, true, None),
        ] {
            let slot = TableSlot(slot);
            assert_eq!((slot.is_marked(), slot.binding()), (marked, binding));
        }
        const { assert!(session::State::BINDINGS <= TableSlot::NONE as u32) };
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
