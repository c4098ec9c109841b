//! Which real server a new session goes to.

use lb_common::{
    Candidate, Predictor, PredictorTable, TableBlock, TableSlot, VirtualServer, hash, protocol,
};

use crate::{
    atomic,
    parse::Flow,
    tables::{State, Tables},
    trace,
};

/// The binding for a new session, as an offset: that of the client's former sessions, if the virtual server is sticky,
/// or else that which the predictor chooses; `None` if none is up.
#[inline(always)]
pub fn binding(
    tables: &impl State,
    flow: &Flow,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Option<u32> {
    if virtual_server.sticky_timeout == 0 {
        return predicted(tables, flow, hash, virtual_server);
    }
    let id = virtual_server.id;
    if let Some(binding) = tables.sticky_binding(flow, id) {
        trace::sticky(tables);
        return Some(binding);
    }
    let binding = predicted(tables, flow, hash, virtual_server)?;
    Some(tables.sticky_stay(flow, id, binding))
}

/// Whether the hash alone says where a new session goes, by the same table as [`by_hash`].
#[inline(always)]
pub fn goes_by_hash(virtual_server: &VirtualServer) -> bool {
    const HASH: u8 = Predictor::Hash as u8;
    const SOURCE_HASH: u8 = Predictor::SourceHash as u8;

    matches!(virtual_server.predictor, HASH | SOURCE_HASH)
        && virtual_server.sticky_timeout == 0
        && virtual_server.on_change == 0
}

#[inline(always)]
fn predicted(
    tables: &impl State,
    flow: &Flow,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Option<u32> {
    const ROUND_ROBIN: u8 = Predictor::RoundRobin as u8;
    const LEAST_CONNECTION: u8 = Predictor::LeastConnection as u8;
    const RESPONSE_TIME: u8 = Predictor::ResponseTime as u8;

    match virtual_server.predictor {
        ROUND_ROBIN | RESPONSE_TIME => by_turn(tables, virtual_server),
        LEAST_CONNECTION => least_connections(tables, virtual_server),
        _ => {
            let table = table_of_new(virtual_server);
            slot_in(tables, table, flow, hash, virtual_server)?.binding()
        }
    }
}

/// The binding that the hash of a flow chooses, or under `source_hash` that of its client's address.
#[inline(always)]
pub fn by_hash(
    tables: &impl Tables,
    flow: &Flow,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Option<u32> {
    slot(tables, flow, hash, virtual_server)?.binding()
}

/// The slot that [`by_hash`] looks into.
#[inline(always)]
pub fn slot(
    tables: &impl Tables,
    flow: &Flow,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Option<TableSlot> {
    let table = virtual_server.table.load();
    slot_in(tables, table, flow, hash, virtual_server)
}

/// The table for a new session: while its virtual server settles, the next one; but not for UDP, where a flow may have
/// begun long ago.
#[inline(always)]
fn table_of_new(virtual_server: &VirtualServer) -> PredictorTable {
    let next = virtual_server.order.load();
    let settles = virtual_server.on_change != 0 && next.slots != 0;
    if settles && virtual_server.protocol == protocol::TCP {
        next
    } else {
        virtual_server.table.load()
    }
}

#[inline(always)]
fn slot_in(
    tables: &impl Tables,
    table: PredictorTable,
    flow: &Flow,
    hash: u64,
    virtual_server: &VirtualServer,
) -> Option<TableSlot> {
    let hash = if virtual_server.predictor == Predictor::SourceHash as u8 {
        hash::source(flow.source)
    } else {
        hash
    };
    slot_of(tables, table, hash)
}

/// The slot that a hash falls into.
#[inline(always)]
fn slot_of(tables: &impl Tables, table: PredictorTable, hash: u64) -> Option<TableSlot> {
    if table.slots == 0 {
        return None;
    }
    in_slot(tables, table, hash::reduce(hash, table.slots))
}

/// The next one in the order of the round robin, on whatever CPU.
#[inline(always)]
fn by_turn(tables: &impl State, virtual_server: &VirtualServer) -> Option<u32> {
    let order = virtual_server.order.load();
    if order.slots == 0 {
        return None;
    }
    let turn = atomic::fetch_add(tables.turns(virtual_server.id)?, 1);
    in_slot(tables, order, (turn % u64::from(order.slots)) as u32)?.binding()
}

#[inline(always)]
fn in_slot(tables: &impl Tables, table: PredictorTable, index: u32) -> Option<TableSlot> {
    let (block, slot) = table.position(index);
    Some(TableSlot(tables.table_block(block)?.slots[slot]))
}

/// The candidate that would have the fewest active sessions in relation to its weight, with one more. Equal ones take
/// turns.
#[inline(always)]
fn least_connections(tables: &impl State, virtual_server: &VirtualServer) -> Option<u32> {
    let candidates = virtual_server.order.load();
    let count = candidates.slots / Candidate::SLOTS as u32;
    let turn = atomic::fetch_add(tables.turns(virtual_server.id)?, 1);
    // Without a panic where the compiler can't see that there are candidates.
    let first = turn.checked_rem(count.into())? as u32;
    // What is compared is sessions / weight, by products. Weight 0 is none yet: anything is less.
    let (mut binding, mut weight, mut sessions, mut turn) = (0, 0, 1, 0);
    let blocks = candidates.slots.div_ceil(TableBlock::SLOTS as u32);
    tables.repeat(blocks, |block| {
        let number = block * TableBlock::CANDIDATES as u32;
        let Some(block) = tables.table_block(candidates.first_block + block) else {
            return;
        };
        for (candidate, number) in block.candidates().iter().zip(number..) {
            let its_weight = u64::from(candidate.weight);
            let Some(active) = tables.active_sessions(candidate.counters) else {
                return;
            };
            let its_sessions = counted(atomic::load(active)) + 1;
            let its_turn = if number < first {
                number + count
            } else {
                number
            };
            let (its_load, load) = (its_sessions * weight, sessions * its_weight);
            if its_load < load || its_load == load && its_turn < turn {
                binding = u32::from(candidate.binding);
                (weight, sessions, turn) = (its_weight, its_sessions, its_turn);
            }
        }
    });
    (weight != 0).then_some(binding)
}

/// A count of active sessions as a number: for a moment it may be less than none, because a session can end on one CPU
/// before another has counted it.
#[inline(always)]
const fn counted(active: u64) -> u64 {
    if active >> 63 == 0 { active } else { 0 }
}

#[cfg(test)]
mod tests;
