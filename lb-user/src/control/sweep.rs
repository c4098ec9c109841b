//! Takes sessions out of the table that are over, so that their places are free and the counts of active sessions are
//! right. Packets do without: an idle session is a miss for them.

use std::{
    collections::{HashMap, HashSet},
    mem,
    ops::Range,
};

use lb_common::{VirtualServer, session::State};

use crate::dataplane::{
    Sizes, Tables,
    sessions::{SessionTable, Slot},
};

/// Walks through the tables again and again, a few buckets at a time.
pub struct Sweep {
    /// The next bucket, counted through all tables.
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
    virtual_servers: VirtualServers,
}

/// The virtual servers as they were at the beginning of a step, by id, as far as they were looked at.
struct VirtualServers(HashMap<u32, VirtualServer>);

impl Sweep {
    /// At the beginning of the first pass.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            next: 0,
            passes: 0,
            left: vec![0; sizes.bindings as usize],
            counted: vec![0; sizes.bindings as usize],
            left_by_family: [0; 2],
            counted_by_family: [0; 2],
            virtual_servers: VirtualServers(HashMap::new()),
        }
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
        let Self {
            next,
            left,
            left_by_family,
            virtual_servers,
            ..
        } = self;
        virtual_servers.0.clear();
        let mut session = |slot: Slot<'_>| {
            let virtual_server = virtual_servers.get(tables, slot.state.virtual_server());
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
        let sessions = visit(tables.sessions.sessions(), step.clone(), &mut session);
        let mut sticky = |slot: Slot<'_>| {
            let virtual_server = virtual_servers.get(tables, slot.state.virtual_server());
            let timeout = virtual_server.map_or(0, |it| it.sticky_timeout);
            if timeout == 0 || slot.state.idle(now) > timeout {
                slot.free();
            }
        };
        let rest = step.start.saturating_sub(sessions)..step.end.saturating_sub(sessions);
        let clients = visit(tables.sessions.sticky(), rest, &mut sticky);
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
    (binding < tables.bindings.len()).then(|| tables.bindings.get(binding).counters)
}

impl VirtualServers {
    /// The virtual server with this id, if there is one.
    fn get(&mut self, tables: &Tables, id: u32) -> Option<&VirtualServer> {
        if id >= tables.virtual_servers.len() {
            return None;
        }
        let known = self.0.entry(id);
        let virtual_server = known.or_insert_with(|| tables.virtual_servers.get(id));
        (virtual_server.protocol != 0).then_some(virtual_server)
    }
}

/// Takes out all of these virtual servers, by id, that no packet comes for any more; and sticky clients of these
/// bindings, by virtual-server id and offset, that nothing leads to any more.
pub fn forget(tables: &Tables, ids: &HashSet<u32>, offsets: &HashSet<(u32, u32)>) {
    if !ids.is_empty() {
        // Twice: a session may move from where the walk has yet to come to where it has been. None moves twice.
        for _ in 0..2 {
            visit_all(tables.sessions.sessions(), |slot| {
                if ids.contains(&slot.state.virtual_server()) {
                    slot.free();
                }
            });
        }
    }
    if !ids.is_empty() || !offsets.is_empty() {
        visit_all(tables.sessions.sticky(), |slot| {
            let (id, offset) = (slot.state.virtual_server(), slot.state.binding());
            if ids.contains(&id) || offsets.contains(&(id, offset)) {
                slot.free();
            }
        });
    }
}

fn visit_all(tables: [&dyn SessionTable; 2], mut visitor: impl FnMut(Slot<'_>)) {
    visit(tables, 0..u64::MAX, &mut visitor);
}

/// Visits those buckets, counted through all tables. How many there are in all.
pub fn visit(
    tables: [&dyn SessionTable; 2],
    buckets: Range<u64>,
    visitor: &mut dyn FnMut(Slot<'_>),
) -> u64 {
    let mut first = 0;
    for table in tables {
        let last = first + u64::from(table.buckets());
        for bucket in buckets.start.max(first)..buckets.end.min(last) {
            table.visit((bucket - first) as u32, visitor);
        }
        first = last;
    }
    first
}

#[cfg(test)]
mod tests;
