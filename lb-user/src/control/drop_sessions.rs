//! Takes the sessions of some bindings out of the table, wherever they are: a walk that others can interrupt.

use std::collections::HashMap;

use super::sweep::visit;
use crate::dataplane::Tables;

/// A session may move from where the walk has yet to come to where it has been. None moves twice.
const PASSES: u32 = 2;

/// Bindings as sessions name them, by virtual-server id and offset, and the indices of their counters.
pub type Bindings = HashMap<(u32, u32), u32>;

/// A walk through the tables, and how far it is.
#[derive(Debug, Default)]
pub struct Walk {
    /// The next bucket, counted through all tables.
    next: u64,
    passes: u32,
    active: u64,
}

impl Walk {
    /// Goes on with so many buckets. At the end: how many of the sessions were active.
    pub fn step(&mut self, tables: &Tables, bindings: &Bindings, buckets: u32) -> Option<u64> {
        let end = self.next + u64::from(buckets);
        let active = &mut self.active;
        let all = visit(tables.sessions.sessions(), self.next..end, &mut |slot| {
            let binding = (slot.state.virtual_server(), slot.state.binding());
            let Some(&counters) = bindings.get(&binding) else {
                return;
            };
            if slot.free() && slot.state.is_active() {
                tables.sessions.end_active(counters);
                *active += 1;
            }
        });
        self.next = end;
        if end >= all {
            self.next = 0;
            self.passes += 1;
        }
        (self.passes == PASSES).then_some(self.active)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use lb_common::session::{Phase, State};

    use super::*;
    use crate::dataplane::{Sizes, sessions::SessionTable};

    const COUNTERS: u32 = 7;

    /// Puts sessions of a binding into the first and the last bucket of each table.
    fn fill(tables: &Tables, id: u32, offset: u32, slot: usize) {
        for phase in [Phase::Established, Phase::Closing] {
            let word = State::new(id, offset, phase, 1).0;
            let sessions = &tables.sessions;
            for (bucket, last) in [
                (sessions.sessions_v4.words(0), 1),
                (
                    sessions.sessions_v4.words(sessions.sessions_v4.len() - 1),
                    1,
                ),
                (sessions.sessions_v6.words(0), 3),
                (
                    sessions.sessions_v6.words(sessions.sessions_v6.len() - 1),
                    3,
                ),
            ] {
                let slot = slot + usize::from(phase == Phase::Closing);
                bucket[slot * (last + 1) + last].store(word, Ordering::Relaxed);
            }
        }
        tables.sessions.active.set(COUNTERS + offset, 4);
    }

    fn left(tables: &Tables) -> Vec<(u32, u32)> {
        let mut left = Vec::new();
        let count = &mut |slot: crate::dataplane::sessions::Slot<'_>| {
            left.push((slot.state.virtual_server(), slot.state.binding()));
        };
        visit(tables.sessions.sessions(), 0..u64::MAX, count);
        left
    }

    #[test]
    fn all_sessions_of_the_bindings_go_and_no_others() {
        let tables = Tables::anonymous(&Sizes::few()).unwrap();
        fill(&tables, 1, 0, 0);
        fill(&tables, 1, 1, 2);
        let bindings = Bindings::from([((1, 1), COUNTERS + 1), ((2, 0), COUNTERS)]);
        let mut walk = Walk::default();
        let dropped = (0..1000).find_map(|_| walk.step(&tables, &bindings, 5));
        assert_eq!(dropped, Some(4));
        assert_eq!(left(&tables), [(1, 0); 8]);
        let active = [0, 1].map(|offset| tables.sessions.active(COUNTERS + offset));
        assert_eq!(active, [4, 0]);
    }

    #[test]
    fn a_session_that_moves_behind_the_walk_goes_too() {
        let tables = Tables::anonymous(&Sizes::few()).unwrap();
        let bindings = Bindings::from([((1, 0), COUNTERS)]);
        let mut walk = Walk::default();
        assert_eq!(walk.step(&tables, &bindings, 1), None);
        fill(&tables, 1, 0, 0);
        assert!(tables.sessions.sessions_v4.buckets() > 1);
        let dropped = (0..1000).find_map(|_| walk.step(&tables, &bindings, 1));
        assert_eq!((dropped, left(&tables)), (Some(4), Vec::new()));
    }
}
