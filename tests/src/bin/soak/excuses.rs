//! What a fault excuses: failures that nobody could have prevented, while it lasts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::scene::MACHINES;

/// Why something may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// Flows move that have no sessions.
    TablesChange,
    /// A machine (counted from 1) dies, and `lb` has not noticed yet; what it knew of its connections is gone.
    MachineDies(usize),
}

/// How often each excuse has begun or ended: while it holds, an odd number.
#[derive(Debug, Default)]
pub struct Excuses([AtomicU64; 1 + MACHINES]);

/// A time.
#[derive(Clone, Debug)]
pub struct Moment([u64; 1 + MACHINES]);

/// Excuses that hold until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Excused<'a> {
    excuses: &'a Excuses,
    held: Vec<Excuse>,
}

impl Excuse {
    /// All of them for a flow that may be on any machine.
    pub fn of_machines() -> impl Iterator<Item = Self> {
        (1..=MACHINES).map(Self::MachineDies)
    }

    const fn index(self) -> usize {
        match self {
            Self::TablesChange => 0,
            Self::MachineDies(machine) => machine,
        }
    }
}

impl Excuses {
    pub fn now(&self) -> Moment {
        Moment(std::array::from_fn(|index| {
            self.0[index].load(Ordering::SeqCst)
        }))
    }

    /// Whether one of these held at any time since.
    pub fn held(&self, any: impl IntoIterator<Item = Excuse>, since: &Moment) -> bool {
        let now = self.now();
        any.into_iter().map(Excuse::index).any(|index| {
            let (then, now) = (since.0[index], now.0[index]);
            then != now || now % 2 == 1
        })
    }

    pub fn hold(&self, excuses: &[Excuse]) -> Excused<'_> {
        let held = excuses.to_vec();
        let excused = Excused {
            excuses: self,
            held,
        };
        excused.turn();
        excused
    }
}

impl Excused<'_> {
    fn turn(&self) {
        for excuse in &self.held {
            self.excuses.0[excuse.index()].fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Excused<'_> {
    fn drop(&mut self) {
        self.turn();
    }
}
