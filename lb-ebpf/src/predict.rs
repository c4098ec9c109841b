//! Which real server a flow goes to.

use lb_common::{VirtualServer, hash};

use crate::tables::Tables;

/// The binding that the predictor chooses for a flow with this hash, as an offset; `None` if none is up.
#[inline(always)]
pub fn binding(tables: &impl Tables, virtual_server: &VirtualServer, hash: u64) -> Option<u32> {
    let table = virtual_server.table.load();
    if table.slots == 0 {
        return None;
    }
    let (block, slot) = table.position(hash::reduce(hash, table.slots));
    Some(u32::from(tables.table_block(block)?.slots[slot]))
}

#[cfg(test)]
mod tests;
