//! Virtual servers that track changes alone: from their tables in the maps to those of the next step.

use std::{rc::Rc, time::Instant};

use lb_common::{Binding, PredictorTable};

use super::{Plan, ReconcileError, Slot};
use crate::{
    control::{
        desired,
        on_change::{self, Change, Progress},
        predictor_table::{Content, Steady},
    },
    dataplane::Tables,
};

impl Plan {
    /// Gives a virtual server the tables that come after those in the maps.
    pub(super) fn settle(
        &mut self,
        tables: &Tables,
        name: &str,
        slot: &mut Slot,
        wanted: &desired::VirtualServer,
    ) -> Result<(), ReconcileError> {
        let steady = Steady::new(&slot.servers(wanted));
        let wanted_slots = self.steady.entry(steady);
        let wanted_slots = wanted_slots.or_insert_with_key(|steady| steady.slots().into());
        let wanted_slots = Rc::clone(wanted_slots);
        let mut stays = vec![false; slot.bindings.capacity as usize];
        for member in slot.members.values() {
            let is_up = member.entry.is_some() && member.flags & Binding::DOWN == 0;
            stays[usize::from(member.offset)] = is_up && !member.is_given_up;
        }
        let change = Change {
            wanted: &wanted_slots,
            is_over: slot.is_due(self.now),
            has_sessions: wanted.has_sessions,
            stays: |offset| stays.get(usize::from(offset)).is_some_and(|&stays| stays),
        };
        let (after, progress) = before(tables, slot, change.wanted).step(&change);
        let order = self.exact_table(tables, name, &after.next, slot.order);
        let table = self.exact_table(tables, name, &after.current, slot.table);
        let (Some(table), Some(order)) = (table, order) else {
            // Where memory is short the change is made at once, and a coarser table serves, too.
            slot.table = self.table(tables, name, Content::slots(&wanted_slots), slot.table)?;
            (slot.order, slot.settles, slot.is_marked) = (PredictorTable::default(), None, false);
            return Ok(());
        };
        (slot.table, slot.order, slot.is_marked) = (table, order, after.is_marked());
        let end = self.now + wanted.session.settle;
        slot.settles = match progress {
            Progress::Settled => None,
            Progress::Begins => Some(end),
            // A daemon that starts doesn't know when it began.
            Progress::GoesOn => Some(slot.settles.unwrap_or(end)),
            Progress::Ends => Some(self.now),
        };
        Ok(())
    }

    /// The table of these slots, if there is room for all of them.
    fn exact_table(
        &mut self,
        tables: &Tables,
        name: &str,
        slots: &[u16],
        current: PredictorTable,
    ) -> Option<PredictorTable> {
        let table = self
            .table(tables, name, Content::slots(slots), current)
            .ok()?;
        (table.slots as usize == slots.len()).then_some(table)
    }
}

impl Slot {
    /// Whether its next step is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.settles.is_some_and(|end| end <= now)
    }
}

/// What packets of a virtual server follow now, as a virtual server that tracks changes alone.
fn before(tables: &Tables, slot: &Slot, wanted: &[u16]) -> on_change::Tables {
    let entry = tables.virtual_servers.get(slot.id);
    let current = slots(tables, slot.table);
    match (entry.on_change, entry.idle_timeout) {
        (0, 0) => on_change::Tables::unmarked(&current),
        // Each flow may have a session.
        (0, _) if current.is_empty() => on_change::Tables::marked(wanted),
        (0, _) => on_change::Tables::marked(&current),
        _ => on_change::Tables {
            current,
            next: slots(tables, slot.order),
        },
    }
}

pub(super) fn slots(tables: &Tables, table: PredictorTable) -> Vec<u16> {
    let blocks = table.first_block..table.first_block + super::blocks(table.slots);
    let slots = blocks.flat_map(|block| tables.predictor_tables.get(block).slots);
    slots.take(table.slots as usize).collect()
}
