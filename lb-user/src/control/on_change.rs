//! The tables of a virtual server that tracks changes alone (`session.mode: on_change`), step by step.
//!
//! While nothing changes, a table that a hash chooses from says where each packet goes, and no flow is remembered. The
//! idea is that of JET (Mendelson et al., CoNEXT 2020): just the flows that a change would move have to be remembered,
//! and which those are is known before it happens. Slots that are to move are marked; while the virtual server settles, packets
//! in marked slots have their flows recorded as sessions, where they are now, and connections that begin go where
//! the next table says. Then that one takes over, and sessions stay where they are.
//!
//! A real server that is down has no flows to lose: its slots move at once.

use std::iter::repeat_n;

use lb_common::TableSlot;

/// What packets follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Where flows without a session go: [`TableSlot`]s. Empty if nowhere.
    pub current: Vec<u16>,
    /// Where connections that begin go, while the virtual server settles; else empty.
    pub next: Vec<u16>,
}

/// How far a virtual server is in its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is to move.
    Settled,
    /// More is to move than before: the time to settle begins.
    Begins,
    /// It settles, as before.
    GoesOn,
    /// Nothing is to move any more. When packets that are under way have been forwarded, the next step ends it.
    Ends,
}

/// What a step goes by.
pub struct Change<'a, Stays> {
    /// The table that the configuration and health ask for, without marks; empty if nobody is to get packets.
    pub wanted: &'a [u16],
    /// Whether the time to settle is over.
    pub is_over: bool,
    /// Whether flows may be recorded. If none is, marks go.
    pub has_sessions: bool,
    /// Whether flows may stay with the real server of this binding.
    pub stays: Stays,
}

/// The table of nobody.
const NOBODY: &[u16] = &[TableSlot::NONE];

impl Tables {
    /// The tables after a step.
    pub fn step(&self, change: &Change<'_, impl Fn(u16) -> bool>) -> (Self, Progress) {
        let wanted = or_nobody(change.wanted);
        let settles = !self.next.is_empty();
        let is_over = settles && change.is_over;
        let slots = self.current.len().max(self.next.len()).max(wanted.len());
        let now = stretched(&self.current, slots);
        let next = stretched(&self.next, slots);
        let (mut moves, mut more_moves, mut moved) = (false, false, false);
        let current: Vec<u16> = now
            .zip(next)
            .zip(stretched(wanted, slots))
            .map(|((now, next), wanted)| {
                let was_to_move = settles && now.unmarked() != next;
                let here = if is_over { next } else { now.unmarked() };
                let stays = here.binding().is_some() && (change.stays)(here.0);
                let here = if stays { here } else { wanted };
                let is_to_move = here != wanted;
                moves |= is_to_move;
                more_moves |= is_to_move && (is_over || !was_to_move);
                moved |= was_to_move;
                let keeps_mark = now.is_marked() && (settles || change.has_sessions);
                match is_to_move || keeps_mark {
                    true => here.0 | TableSlot::MARK,
                    false => here.0,
                }
            })
            .collect();
        let progress = match (moves, more_moves, moved) {
            (true, true, _) => Progress::Begins,
            (true, false, _) => Progress::GoesOn,
            (false, _, true) => Progress::Ends,
            (false, _, false) => Progress::Settled,
        };
        let next = match progress {
            Progress::Settled => Vec::new(),
            Progress::Begins | Progress::GoesOn | Progress::Ends => wanted.to_vec(),
        };
        let tables = Self { current, next };
        match progress {
            // Of the size that is wanted, too.
            Progress::Settled if !tables.is_marked() => (Self::unmarked(change.wanted), progress),
            _ => (tables, progress),
        }
    }

    /// Nothing is to move, and no flow has a session.
    pub fn unmarked(slots: &[u16]) -> Self {
        Self {
            current: slots.to_vec(),
            next: Vec::new(),
        }
    }

    /// Nothing is to move, and each flow may have a session.
    pub fn marked(slots: &[u16]) -> Self {
        let slots = slots.iter().map(|slot| slot | TableSlot::MARK);
        Self {
            current: slots.collect(),
            next: Vec::new(),
        }
    }

    /// Whether any slot is marked.
    pub fn is_marked(&self) -> bool {
        let mut slots = self.current.iter();
        slots.any(|&slot| TableSlot(slot).is_marked())
    }
}

const fn or_nobody(table: &[u16]) -> &[u16] {
    if table.is_empty() { NOBODY } else { table }
}

/// A table as one of so many slots, which says the same. Sizes are powers of two, and a hash chooses by its first bits.
fn stretched(table: &[u16], slots: usize) -> impl Iterator<Item = TableSlot> {
    let table = or_nobody(table);
    let times = slots / table.len();
    table
        .iter()
        .flat_map(move |&slot| repeat_n(TableSlot(slot), times))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use lb_common::hash;
    use proptest::prelude::*;

    use super::*;
    use crate::control::predictor_table::{Server, Steady};

    const A: u16 = 0;
    const B: u16 = 1;
    const C: u16 = 2;
    const NONE: u16 = TableSlot::NONE;
    const M: u16 = TableSlot::MARK;

    /// A step, of a virtual server with sessions, to these servers; those that flows may stay with are up.
    fn step(before: &Tables, wanted: &[u16], is_over: bool, up: &[u16]) -> (Tables, Progress) {
        before.step(&Change {
            wanted,
            is_over,
            has_sessions: true,
            stays: |server| up.contains(&server),
        })
    }

    fn tables(current: &[u16], next: &[u16]) -> Tables {
        let [current, next] = [current, next].map(<[u16]>::to_vec);
        Tables { current, next }
    }

    #[test]
    fn the_first_table_is_there_at_once() {
        let first = step(&Tables::default(), &[A, B, A, B], false, &[A, B]);
        assert_eq!(first, (tables(&[A, B, A, B], &[]), Progress::Settled));
    }

    #[test]
    fn what_is_to_move_is_marked_and_moves_when_it_has_settled() {
        let before = tables(&[A, B, A, B], &[]);
        let wanted = [A, C, A, B];
        let (settling, progress) = step(&before, &wanted, false, &[A, B, C]);
        let expected = tables(&[A, B | M, A, B], &wanted);
        assert_eq!((&settling, progress), (&expected, Progress::Begins));
        let again = step(&settling, &wanted, false, &[A, B, C]);
        assert_eq!(again, (expected, Progress::GoesOn));
        let (over, progress) = step(&settling, &wanted, true, &[A, B, C]);
        let expected = tables(&[A, C | M, A, B], &wanted);
        assert_eq!((&over, progress), (&expected, Progress::Ends));
        let (settled, progress) = step(&over, &wanted, true, &[A, B, C]);
        let expected = tables(&[A, C | M, A, B], &[]);
        assert_eq!((&settled, progress), (&expected, Progress::Settled));
        let without_sessions = settled.step(&Change {
            wanted: &wanted,
            is_over: false,
            has_sessions: false,
            stays: |_| true,
        });
        let expected = tables(&wanted, &[]);
        assert_eq!(without_sessions, (expected, Progress::Settled));
    }

    #[test]
    fn a_server_that_is_down_loses_its_slots_at_once() {
        let before = tables(&[A, B, A, B], &[]);
        let after = step(&before, &[A, C, A, A], false, &[A, C]);
        assert_eq!(after, (tables(&[A, C, A, A], &[]), Progress::Settled));
    }

    #[test]
    fn a_server_that_fails_meanwhile_does_not_prolong_the_time() {
        let settling = tables(&[A, B | M, A, B], &[A, C, C, B]);
        // The new one.
        let after = step(&settling, &[A, B, A, B], false, &[A, B]);
        assert_eq!(
            after,
            (tables(&[A, B | M, A, B], &[A, B, A, B]), Progress::Ends)
        );
        // One of the others.
        let (after, progress) = step(&settling, &[A, C, C, C], false, &[A, C]);
        let expected = tables(&[A, C | M, A | M, C], &[A, C, C, C]);
        assert_eq!((after, progress), (expected, Progress::GoesOn));
    }

    #[test]
    fn another_change_meanwhile_begins_the_time_anew() {
        let settling = tables(&[A, B | M, A, B], &[A, C, A, B]);
        let (after, progress) = step(&settling, &[C, C, A, B], false, &[A, B, C]);
        let expected = tables(&[A | M, B | M, A, B], &[C, C, A, B]);
        assert_eq!((after, progress), (expected, Progress::Begins));
        // And one at the end of it.
        let (after, progress) = step(&settling, &[C, C, A, B], true, &[A, B, C]);
        let expected = tables(&[A | M, C | M, A, B], &[C, C, A, B]);
        assert_eq!((after, progress), (expected, Progress::Begins));
    }

    #[test]
    fn flows_stay_where_they_are_when_nobody_is_to_get_new_ones() {
        let before = tables(&[A, B], &[]);
        let (after, progress) = step(&before, &[], false, &[A]);
        let expected = tables(&[A | M, NONE], &[NONE]);
        assert_eq!((&after, progress), (&expected, Progress::Begins));
        let (after, _) = step(&after, &[], true, &[A]);
        assert_eq!(after, tables(&[NONE | M, NONE], &[NONE]));
        let (after, _) = step(&after, &[A, A], true, &[A]);
        assert_eq!(after, tables(&[A | M, A], &[]));
        assert_eq!(
            step(&tables(&[B, B], &[]), &[], false, &[]),
            (Tables::default(), Progress::Settled)
        );
    }

    #[test]
    fn a_table_of_another_size_moves_what_differs() {
        let before = tables(&[A, B], &[]);
        let (larger, _) = step(&before, &[A, A, B, C], false, &[A, B, C]);
        assert_eq!(larger, tables(&[A, A, B, B | M], &[A, A, B, C]));
        let (smaller, _) = step(&tables(&[A, A, B, C], &[]), &[A, B], false, &[A, B, C]);
        assert_eq!(smaller, tables(&[A, A, B, C | M], &[A, B]));
        let (over, _) = step(&smaller, &[A, B], true, &[A, B]);
        assert_eq!(over, tables(&[A, A, B, B | M], &[A, B]));
        let (settled, _) = over.step(&Change {
            wanted: &[A, B],
            is_over: true,
            has_sessions: false,
            stays: |_| true,
        });
        assert_eq!(settled, tables(&[A, A, B, B | M], &[]));
        let (unmarked, _) = settled.step(&Change {
            wanted: &[A, B],
            is_over: false,
            has_sessions: false,
            stays: |_| true,
        });
        assert_eq!(unmarked, tables(&[A, B], &[]));
    }

    /// A balancer as packets see it.
    #[derive(Default)]
    struct Balancer {
        tables: Tables,
        /// By flow.
        sessions: HashMap<u64, u16>,
    }

    impl Balancer {
        fn slot(table: &[u16], flow: u64) -> TableSlot {
            let slot = hash::reduce(hash::finish(flow), table.len() as u32);
            TableSlot(table[slot as usize])
        }

        /// Where a packet goes.
        fn forward(&mut self, flow: u64, begins: bool, is_up: impl Fn(u16) -> bool) -> Option<u16> {
            let Tables { current, next } = &self.tables;
            if current.is_empty() {
                return None;
            }
            let here = Self::slot(current, flow);
            let server = |slot: TableSlot| slot.binding().map(|server| server as u16);
            let former = self
                .sessions
                .get(&flow)
                .copied()
                .filter(|_| here.is_marked());
            if former.is_some_and(&is_up) {
                return former;
            }
            let settles = here.is_marked() && !next.is_empty();
            let server = match settles && begins {
                true => server(Self::slot(next, flow)),
                false => server(here),
            }?;
            if settles || former.is_some() {
                self.sessions.insert(flow, server);
            }
            Some(server)
        }
    }

    /// What may happen to one of four servers, or to all.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        FailsOrRecovers(usize),
        IsBoundOrUnbound(usize),
        GetsWeight(usize, u16),
        TimePasses,
        FlowsEnd,
    }

    fn event() -> impl Strategy<Value = Event> {
        use Event::{FailsOrRecovers, FlowsEnd, GetsWeight, IsBoundOrUnbound, TimePasses};
        prop_oneof![
            2 => (0..4usize).prop_map(FailsOrRecovers),
            2 => (0..4usize).prop_map(IsBoundOrUnbound),
            1 => (0..4usize, prop::sample::select(vec![1, 3, 60])).prop_map(|(server, weight)| GetsWeight(server, weight)),
            4 => Just(TimePasses),
            1 => Just(FlowsEnd),
        ]
    }

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    /// A server of the model.
    #[derive(Clone, Copy)]
    struct Machine {
        weight: u16,
        is_up: bool,
        is_bound: bool,
    }

    fn wanted(machines: &[Machine; 4]) -> Vec<u16> {
        let servers = (0..).zip(NAMES).zip(machines);
        let bound = servers.filter(|(_, machine)| machine.is_bound);
        let servers: Vec<_> = bound
            .map(|((offset, name), machine)| Server {
                name,
                weight: machine.weight,
                share: machine.weight,
                offset,
                counters: 0,
                serves: machine.is_up,
            })
            .collect();
        Steady::new(&servers).slots()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn no_flow_leaves_a_server_that_is_up(events in prop::collection::vec(event(), 1..20)) {
            let mut machines = [Machine { weight: 1, is_up: true, is_bound: true }; 4];
            let mut balancer = Balancer::default();
            let mut flows = HashMap::<u64, u16>::new();
            let mut number = 0;
            for event in events {
                match event {
                    Event::FailsOrRecovers(server) => machines[server].is_up ^= true,
                    Event::IsBoundOrUnbound(server) => machines[server].is_bound ^= true,
                    Event::GetsWeight(server, weight) => machines[server].weight = weight,
                    Event::TimePasses => {}
                    Event::FlowsEnd => {
                        flows.clear();
                        balancer.sessions.clear();
                    }
                }
                let wanted = wanted(&machines);
                let is_up = |server: u16| machines[usize::from(server)].is_up;
                let (after, progress) = balancer.tables.step(&Change {
                    wanted: &wanted,
                    is_over: matches!(event, Event::TimePasses),
                    has_sessions: !balancer.sessions.is_empty(),
                    stays: is_up,
                });
                prop_assert_eq!(progress == Progress::Settled, after.next.is_empty());
                balancer.tables = after;
                flows.retain(|&flow, server| {
                    let now = balancer.forward(flow, false, is_up);
                    if is_up(*server) {
                        assert_eq!(now, Some(*server), "flow {flow} after {event:?}");
                    }
                    // One that has lost its server has another connection from now on.
                    now.map(|now| *server = now).is_some()
                });
                for flow in number..number + 50 {
                    let server = balancer.forward(flow, true, is_up);
                    prop_assert_eq!(server.is_some(), !wanted.is_empty());
                    if let Some(server) = server {
                        let machine = machines[usize::from(server)];
                        prop_assert!(machine.is_up && machine.is_bound, "{} gets a new flow", server);
                        flows.insert(flow, server);
                    }
                }
                number += 50;
            }
        }
    }
}
