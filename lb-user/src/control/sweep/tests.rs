use std::sync::atomic::Ordering;

use bytemuck::Zeroable;
use lb_common::{
    Binding,
    protocol::{TCP, UDP},
    session::Phase,
};

use super::*;

const NOW: u32 = 1000;
/// The virtual server with two bindings, whose sessions live for 100 ticks, and clients stay for 200.
const SHOP: u32 = 1;
/// Another one, for UDP, with one binding.
const DNS: u32 = 2;
/// The index of the counters of a binding of [`SHOP`], which are 1 and 2, or of [`DNS`].
const COUNTERS: [u32; 3] = [1, 2, 3];

struct Table {
    tables: Tables,
    sweep: Sweep,
    used: u32,
}

impl Table {
    fn new() -> Self {
        let sizes = Sizes::few();
        let tables = Tables::anonymous(&sizes).unwrap();
        for (id, protocol, first_binding) in [(SHOP, TCP, 4), (DNS, UDP, 8)] {
            let entry = VirtualServer {
                protocol,
                vip: std::net::IpAddr::from([10, 9, 1, 1]).into(),
                first_binding,
                idle_timeout: 100,
                sticky_timeout: 200,
                ..VirtualServer::zeroed()
            };
            tables.virtual_servers.set(id, entry);
        }
        for (index, counters) in [4, 5, 8].into_iter().zip(COUNTERS) {
            let binding = Binding {
                real_server: 1,
                counters,
            };
            tables.bindings.set(index, binding);
        }
        Self {
            sweep: Sweep::new(&sizes),
            tables,
            used: 0,
        }
    }

    /// Puts a session somewhere and counts it.
    fn session(&mut self, id: u32, binding: u32, phase: Phase, used: u32) {
        let state = State::new(id, binding, phase, used);
        let table = &self.tables.sessions;
        let bucket = table.sessions_v4.words(self.used / 4);
        bucket[self.used as usize % 4 * 2 + 1].store(state.0, Ordering::Relaxed);
        self.used += 1;
        if let Some(virtual_server) = (id <= DNS).then(|| self.tables.virtual_servers.get(id))
            && state.is_active()
        {
            let counters = counters(&self.tables, &virtual_server, state).unwrap();
            table.active.words(counters)[0].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a sticky client somewhere.
    fn sticky(&mut self, id: u32, binding: u32, used: u32) {
        let state = State::new(id, binding, Phase::Established, used);
        let bucket = self.tables.sessions.sticky_v4.words(self.used);
        bucket[1].store(state.0, Ordering::Relaxed);
        self.used += 1;
    }

    fn sweep(&mut self) {
        assert!(self.sweep.step(&self.tables, NOW, 1000), "a whole pass");
    }

    /// Sessions left, active sessions and sessions that the sweep has seen, of each binding.
    fn counts(&self) -> (usize, [u64; 3], [u32; 3]) {
        (
            self.left(self.tables.sessions.sessions()),
            COUNTERS.map(|counters| self.tables.sessions.active(counters)),
            COUNTERS.map(|counters| self.sweep.counted(counters)),
        )
    }

    fn left(&self, tables: [&dyn SessionTable; 2]) -> usize {
        let mut left = 0;
        visit_all(tables, |_| left += 1);
        left
    }
}

#[test]
fn sessions_that_were_idle_for_too_long_go_and_others_stay() {
    let mut table = Table::new();
    table.session(SHOP, 0, Phase::Established, NOW - 100);
    table.session(SHOP, 0, Phase::Established, NOW - 101);
    table.session(SHOP, 1, Phase::Opening, NOW - 57);
    table.session(SHOP, 1, Phase::Opening, NOW - 40);
    table.session(DNS, 0, Phase::Opening, NOW - 57);
    assert_eq!(table.counts().1, [2, 2, 1]);
    table.sweep();
    assert_eq!(table.counts(), (3, [1, 1, 1], [1, 1, 1]));
}

#[test]
fn a_closed_session_is_not_active_and_keeps_its_server_all_the_same() {
    let mut table = Table::new();
    table.session(SHOP, 0, Phase::Closing, NOW);
    table.session(SHOP, 0, Phase::Closing, NOW - 57);
    table.sweep();
    assert_eq!(table.counts(), (1, [0, 0, 0], [1, 0, 0]));
    assert_eq!(table.sweep.counted_by_family(), [1, 0]);
}

#[test]
fn a_virtual_server_without_sessions_keeps_none() {
    let mut table = Table::new();
    table.session(SHOP, 0, Phase::Established, NOW);
    table.session(SHOP, 1, Phase::Established, NOW);
    let stateless = VirtualServer {
        idle_timeout: 0,
        ..table.tables.virtual_servers.get(SHOP)
    };
    table.tables.virtual_servers.set(SHOP, stateless);
    // Of virtual servers that are not there.
    table.session(DNS + 1, 0, Phase::Established, NOW);
    table.session(60_000, 4000, Phase::Established, NOW);
    table.sweep();
    assert_eq!(table.counts(), (0, [0, 0, 0], [0, 0, 0]));
}

#[test]
fn clients_that_were_not_seen_for_too_long_are_forgotten() {
    let mut table = Table::new();
    table.sticky(SHOP, 0, NOW - 200);
    table.sticky(SHOP, 0, NOW - 201);
    table.sticky(60_000, 0, NOW);
    table.sweep();
    assert_eq!(table.left(table.tables.sessions.sticky()), 1);
}

#[test]
fn a_pass_may_take_many_steps() {
    let mut table = Table::new();
    for _ in 0..20 {
        table.session(SHOP, 0, Phase::Established, NOW);
    }
    for pass in 1..=3 {
        // Eight buckets in each of four tables.
        let steps = (1..).find(|_| table.sweep.step(&table.tables, NOW, 5));
        assert_eq!((steps, table.sweep.passes()), (Some(7), pass));
        assert_eq!(table.counts(), (20, [20, 0, 0], [20, 0, 0]));
    }
}

#[test]
fn what_nothing_leads_to_any_more_is_forgotten() {
    let mut table = Table::new();
    table.session(SHOP, 0, Phase::Established, NOW);
    table.session(DNS, 0, Phase::Established, NOW);
    for (id, binding) in [(SHOP, 0), (SHOP, 1), (DNS, 0)] {
        table.sticky(id, binding, NOW);
    }
    forget(&table.tables, &HashSet::new(), &HashSet::from([(SHOP, 1)]));
    let left = |table: &Table| {
        let sessions = &table.tables.sessions;
        [
            table.left(sessions.sessions()),
            table.left(sessions.sticky()),
        ]
    };
    assert_eq!(left(&table), [2, 2]);
    forget(&table.tables, &HashSet::from([DNS]), &HashSet::new());
    assert_eq!(left(&table), [1, 1]);
}

#[test]
fn a_step_visits_as_many_buckets_as_it_should_and_the_next_one_goes_on() {
    let mut table = Table::new();
    // Two buckets full of sessions that are over.
    for _ in 0..8 {
        table.session(SHOP, 0, Phase::Established, NOW - 101);
    }
    for left in [[4, 4], [0, 0]] {
        assert!(!table.sweep.step(&table.tables, NOW, 1));
        assert_eq!([table.counts().0 as u64, table.counts().1[0]], left);
    }
}

#[test]
fn tables_of_a_family_without_virtual_servers_are_left_out() {
    let mut table = Table::new();
    table.session(SHOP, 0, Phase::Established, NOW);
    // Eight buckets each, of sessions and of clients.
    for (families, steps) in [([true, true], 4), ([true, false], 2), ([false, true], 2)] {
        table.sweep.visit_only(families);
        let taken = (1..).find(|_| table.sweep.step(&table.tables, NOW, 8));
        assert_eq!(taken, Some(steps), "{families:?}");
        let [v4, _] = families;
        assert_eq!(table.sweep.counted_by_family(), [u64::from(v4), 0]);
    }
    table.sweep.visit_only([false; 2]);
    assert!(table.sweep.step(&table.tables, NOW, 8), "nothing to visit");
}

#[test]
fn a_pass_takes_long_enough_and_its_steps_do_not() {
    let tables = |sessions_v4| {
        let sizes = Sizes {
            sessions_v4,
            sticky: 0x1000,
            ..Sizes::few()
        };
        (Sweep::new(&sizes), Tables::anonymous(&sizes).unwrap())
    };
    for (buckets, expected) in [(8, SHORTEST), (1_000_000, 10_082), (8 << 20, LONGEST)] {
        let (sweep, tables) = tables(buckets);
        assert_eq!(u64::from(sweep.pace(&tables)), expected, "{buckets}");
    }
}
