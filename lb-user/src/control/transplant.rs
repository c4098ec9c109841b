//! What an earlier daemon left in maps of other sizes or another layout, put into new ones that no packet looks at yet.
//!
//! Virtual servers, their bindings and real servers get new places there, so that what is in use fits smaller maps, too.
//! With that a daemon starts as from maps that it takes over. What it makes anew anyway (the directory, most predictor
//! tables) stays behind; sessions and counts follow at the last moment ([`super::handover`]).

use std::collections::HashMap;

use lb_common::{Binding, PredictorTable, TableBlock, VirtualServer};

use super::{ReconcileError, allocator::Allocator};
use crate::dataplane::{Former, Sizes, Tables};

/// Fills new maps with the virtual servers that `is_wanted` says, and all that belongs to them.
///
/// # Errors
///
/// If they have no room for them.
pub fn transplant(
    former: &Former,
    tables: &Tables,
    sizes: &Sizes,
    is_wanted: impl Fn(&VirtualServer) -> bool,
) -> Result<(), ReconcileError> {
    let mut ids = Allocator::new(1, sizes.virtual_servers);
    let mut ranges = Allocator::new(1, sizes.bindings);
    let mut counters = Allocator::new(1, sizes.bindings);
    let mut free_real_servers = Allocator::new(1, sizes.real_servers);
    let mut real_servers = HashMap::new();
    let mut free_blocks = Allocator::new(1, sizes.table_blocks);
    for id in 1..former.virtual_servers.len() {
        let entry = former.virtual_servers.get(id);
        if !is_wanted(&entry) {
            continue;
        }
        let id = ids.allocate(1).ok_or(ReconcileError::VirtualServers)?;
        let members: Vec<_> = former.members(&entry).collect();
        let no_room = || ReconcileError::Bindings {
            virtual_server: entry.name.as_str().unwrap_or_default().to_owned(),
            members: members.len(),
        };
        let first_binding = match entry.binding_capacity {
            0 => 0,
            capacity => ranges.allocate(capacity).ok_or_else(no_room)?,
        };
        for &(offset, binding) in &members {
            let real_server = match real_servers.get(&binding.real_server) {
                Some(&index) => index,
                None => {
                    let free = free_real_servers.allocate(1);
                    let index = free.ok_or(ReconcileError::RealServers)?;
                    let entry = former.real_servers.get(binding.real_server);
                    tables.real_servers.set(index, entry);
                    real_servers.insert(binding.real_server, index);
                    index
                }
            };
            let moved = Binding {
                real_server,
                counters: counters.allocate(1).ok_or_else(no_room)? | binding.flags(),
            };
            tables.bindings.set(first_binding + offset, moved);
        }
        let no_room = || ReconcileError::PredictorTables {
            virtual_server: entry.name.as_str().unwrap_or_default().to_owned(),
        };
        // Where flows have no sessions only the tables say where they are.
        let [table, order] = match entry.on_change {
            0 => [PredictorTable::default(); 2],
            _ => [
                copy(former, tables, &mut free_blocks, entry.table).ok_or_else(no_room)?,
                copy(former, tables, &mut free_blocks, entry.order).ok_or_else(no_room)?,
            ],
        };
        let moved = VirtualServer {
            first_binding,
            table,
            order,
            id,
            ..entry
        };
        tables.virtual_servers.set(id, moved);
    }
    for index in 0..former.interfaces.len().min(tables.interfaces.len()) {
        tables.interfaces.set(index, former.interfaces.get(index));
    }
    Ok(())
}

/// Copies a predictor table; `None` if there is no room for it.
fn copy(
    former: &Former,
    tables: &Tables,
    free_blocks: &mut Allocator,
    table: PredictorTable,
) -> Option<PredictorTable> {
    let blocks = table.slots.div_ceil(TableBlock::SLOTS as u32);
    if blocks == 0 {
        return Some(table);
    }
    let first_block = free_blocks.allocate(blocks)?;
    for block in 0..blocks {
        let content = former.predictor_tables.get(table.first_block + block);
        tables.predictor_tables.set(first_block + block, content);
    }
    Some(PredictorTable {
        first_block,
        ..table
    })
}
