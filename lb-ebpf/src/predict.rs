//! Which real server a flow goes to.

use lb_common::{Binding, RealServer, VirtualServer, hash};

use crate::{parse::Flow, tables::Tables};

/// The binding that the predictor chooses for a flow, and its real server; `None` if none is up.
#[inline(always)]
pub fn real_server<'t>(
    tables: &'t impl Tables,
    virtual_server: &VirtualServer,
    flow: &Flow,
) -> Option<(&'t Binding, &'t RealServer)> {
    let table = virtual_server.table.load();
    if table.slots == 0 {
        return None;
    }
    let hash = hash::flow(
        flow.source,
        flow.destination,
        flow.source_port,
        flow.destination_port,
        flow.protocol,
    );
    let (block, slot) = table.position(hash::reduce(hash, table.slots));
    let offset = tables.table_block(block)?.slots[slot];
    let binding = tables.binding(virtual_server.first_binding + u32::from(offset))?;
    if binding.real_server == 0 {
        return None;
    }
    Some((binding, tables.real_server(binding.real_server)?))
}
