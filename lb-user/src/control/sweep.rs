//! Takes sessions out of the table that are over, so that their places are free and the counts of active sessions are
//! right. Packets do without: an idle session is a miss for them.

use std::{collections::HashSet, mem, ops::Range};

use lb_common::{VirtualServer, session::State};

use crate::dataplane::{
    Sizes, Tables,
    sessions::{SessionTable, Slot},
};

/// Steps in a pass, unless they would visit fewer buckets than [`SHORTEST`] or more than [`LONGEST`].
const STEPS: u64 = 100;
/// Visited sooner than it is worth to wake up again.
const SHORTEST: u64 = 4_096;
/// One or two milliseconds' work at the limit of sessions: what else the daemon has to do doesn't wait for more.
const LONGEST: u64 = 16_384;

/// Walks through the tables again and again, a few buckets at a time.
pub struct Sweep {
    /// Whether this pass visits the tables of IPv4, and those of IPv6.
    families: [bool; 2],
    /// The next bucket, counted through those tables: first those of sessions, then those of clients.
    next: u64,
    passes: u64,
    /// Sessions left in this pass, by index of the binding's counters.
    left: Vec<u32>,
    /// Sessions left in the last whole pass.
    counted: Vec<u32>,
    /// Sessions left in this pass, of IPv4 and of IPv6.
    left_by_family: [u64; 2],
    /// Sessions left in the last whole pass, of IPv4 and of IPv6.
    counted_by_family: [u64; 2],
}

impl Sweep {
    /// At the beginning of the first pass.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            families: [true; 2],
            next: 0,
            passes: 0,
            left: vec![0; sizes.bindings as usize],
            counted: vec![0; sizes.bindings as usize],
            left_by_family: [0; 2],
            counted_by_family: [0; 2],
        }
    }

    /// Whether the next step begins a pass.
    pub const fn begins(&self) -> bool {
        self.next == 0
    }

    /// Whether the passes that begin with the next step visit the tables of IPv4, and those of IPv6. It takes as long to find
    /// nothing in a table that no virtual server has sessions in as in any other.
    ///
    /// # Panics
    ///
    /// In the middle of a pass.
    pub fn visit_only(&mut self, families: [bool; 2]) {
        assert!(self.begins(), "what a pass visits does not change");
        self.families = families;
    }

    /// How many buckets the next step should visit.
    pub fn pace(&self, tables: &Tables) -> u32 {
        let all = self.tables(tables).into_iter().flatten();
        let buckets: u64 = all.map(|table| u64::from(table.buckets())).sum();
        buckets.div_ceil(STEPS).clamp(SHORTEST, LONGEST) as u32
    }

    /// The tables that this pass visits, of sessions and of sticky clients.
    fn tables<'a>(&self, tables: &'a Tables) -> [Vec<&'a dyn SessionTable>; 2] {
        [tables.sessions.sessions(), tables.sessions.sticky()]
            .map(|both| of_families(self.families, both))
    }

    /// How many passes have been completed.
    pub const fn passes(&self) -> u64 {
        self.passes
    }

    /// Sessions of a binding, by the index of its counters, that the last whole pass has left.
    pub fn counted(&self, binding_counters: u32) -> u32 {
        self.counted[binding_counters as usize]
    }

    /// The sessions of a binding, by the index of its counters, were taken out by somebody else.
    pub fn reset(&mut self, binding_counters: u32) {
        self.left[binding_counters as usize] = 0;
        self.counted[binding_counters as usize] = 0;
    }

    /// Sessions of IPv4 and of IPv6 that the last whole pass has left.
    pub const fn counted_by_family(&self) -> [u64; 2] {
        self.counted_by_family
    }

    /// Goes on with so many buckets. Whether that completed a pass. `now` is in ticks.
    pub fn step(&mut self, tables: &Tables, now: u32, buckets: u32) -> bool {
        let [sessions, clients] = self.tables(tables);
        let Self {
            next,
            left,
            left_by_family,
            ..
        } = self;
        let mut session = |slot: Slot<'_>| {
            let virtual_server = virtual_server(tables, slot.state.virtual_server());
            let virtual_server = virtual_server.as_ref();
            let counters = virtual_server.and_then(|it| counters(tables, it, slot.state));
            let stays = virtual_server.is_some_and(|it| !is_over(slot.state, it, now));
            let is_v6 = virtual_server.is_some_and(|it| !it.vip.is_ipv4());
            match counters {
                Some(counters) if stays => {
                    left[counters as usize] += 1;
                    left_by_family[usize::from(is_v6)] += 1;
                }
                Some(counters) if slot.free() && slot.state.is_active() => {
                    tables.sessions.end_active(counters);
                }
                Some(_) => {}
                None => drop(slot.free()),
            }
        };
        let step = *next..*next + u64::from(buckets);
        let sessions = visit(sessions, step.clone(), &mut session);
        let mut sticky = |slot: Slot<'_>| {
            let virtual_server = virtual_server(tables, slot.state.virtual_server());
            let timeout = virtual_server.map_or(0, |it| it.sticky_timeout);
            if timeout == 0 || slot.state.idle(now) > timeout {
                slot.free();
            }
        };
        let rest = step.start.saturating_sub(sessions)..step.end.saturating_sub(sessions);
        let clients = visit(clients, rest, &mut sticky);
        self.next = step.end;
        let completed = step.end >= sessions + clients;
        if completed {
            self.next = 0;
            self.passes += 1;
            mem::swap(&mut self.left, &mut self.counted);
            self.left.fill(0);
            self.counted_by_family = mem::take(&mut self.left_by_family);
        }
        completed
    }
}

/// Whether a session is idle for too long, or its virtual server has none any more. `now` is in ticks.
pub fn is_over(session: State, virtual_server: &VirtualServer, now: u32) -> bool {
    let VirtualServer {
        protocol,
        idle_timeout,
        ..
    } = *virtual_server;
    idle_timeout == 0 || session.is_expired(protocol, idle_timeout, now)
}

/// The index of the counters of a session's binding.
fn counters(tables: &Tables, virtual_server: &VirtualServer, session: State) -> Option<u32> {
    let binding = virtual_server.first_binding + session.binding();
    (binding < tables.bindings.len()).then(|| tables.bindings.get(binding).counters_index())
}

/// The virtual server with this id, if there is one.
fn virtual_server(tables: &Tables, id: u32) -> Option<VirtualServer> {
    let entry = (id < tables.virtual_servers.len()).then(|| tables.virtual_servers.get(id));
    entry.filter(|it| it.protocol != 0)
}

/// Those of the tables of IPv4 and of IPv6 that are wanted.
fn of_families(families: [bool; 2], tables: [&dyn SessionTable; 2]) -> Vec<&dyn SessionTable> {
    let all = tables.into_iter().zip(families);
    all.filter_map(|(table, is_wanted)| is_wanted.then_some(table))
        .collect()
}

/// Takes out all of these virtual servers, by id, that no packet comes for any more; and sticky clients of these
/// bindings, by virtual-server id and offset, that nothing leads to any more. Visits all tables of their families.
pub fn forget(tables: &Tables, ids: &HashSet<u32>, offsets: &HashSet<(u32, u32)>) {
    let sessions = families(tables, ids.iter().copied());
    // Twice: a session may move from where the walk has yet to come to where it has been. None moves twice.
    for _ in 0..2 {
        visit_all(of_families(sessions, tables.sessions.sessions()), |slot| {
            if ids.contains(&slot.state.virtual_server()) {
                slot.free();
            }
        });
    }
    let of_offsets = offsets.iter().map(|&(id, _)| id);
    let clients = families(tables, ids.iter().copied().chain(of_offsets));
    visit_all(of_families(clients, tables.sessions.sticky()), |slot| {
        let (id, offset) = (slot.state.virtual_server(), slot.state.binding());
        if ids.contains(&id) || offsets.contains(&(id, offset)) {
            slot.free();
        }
    });
}

/// Whether there are such with VIPs of IPv4, and of IPv6, among these virtual servers, by id.
fn families(tables: &Tables, ids: impl Iterator<Item = u32>) -> [bool; 2] {
    let mut families = [false; 2];
    for id in ids {
        let is_v4 = tables.virtual_servers.get(id).vip.is_ipv4();
        families[usize::from(!is_v4)] = true;
    }
    families
}

fn visit_all<'a>(
    tables: impl IntoIterator<Item = &'a dyn SessionTable>,
    mut visitor: impl FnMut(Slot<'_>),
) {
    visit(tables, 0..u64::MAX, &mut visitor);
}

/// Visits those buckets, counted through all tables. How many there are in all.
pub fn visit<'a>(
    tables: impl IntoIterator<Item = &'a dyn SessionTable>,
    buckets: Range<u64>,
    visitor: &mut dyn FnMut(Slot<'_>),
) -> u64 {
    let mut first = 0;
    for table in tables {
        let last = first + u64::from(table.buckets());
        let place = |bucket: u64| (bucket.clamp(first, last) - first) as u32;
        table.visit(place(buckets.start)..place(buckets.end), visitor);
        first = last;
    }
    first
}

#[cfg(test)]
mod tests;
