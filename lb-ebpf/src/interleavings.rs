//! Every order in which the atomic accesses of a few threads can follow one another, for tests of what is lock-free.
//!
//! A thread depends on nothing but the values that its accesses find. So what it does next is a tree: a node for each
//! sequence of values found, learnt by running the thread alone and handing it those values ([`before_access`]). The
//! search then walks from state to state (memory, and each thread's node) and passes through each state once: all
//! orders, however often they switch. Accesses that commute with all that other threads still may do need no orders: a
//! load of a word that nobody writes is not even a node, and where a thread's next access touches nothing of the others'
//! it goes first (persistent sets: Godefroid, LNCS 1032). What threads may do is learnt on the way; whenever there is
//! more of it than was known the search starts again.
//!
//! Accesses take effect at once and in order, as in Documentation/memory-barriers.txt of a machine that is sequentially
//! consistent. That covers machines with total store order, too, as long as no thread loads between a plain store
//! and its next exchange: a store that is late is then a thread that is late.

extern crate std;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{
    boxed::Box,
    cell::RefCell,
    collections::{HashMap, HashSet},
    eprintln,
    hash::{BuildHasher, RandomState},
    iter,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread, thread_local, vec,
    vec::Vec,
};

/// What a thread does to a word.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// It reads.
    Load,
    /// It writes this.
    Store(u64),
    /// It writes `new` if it finds `current`.
    Replace {
        /// What must be there.
        current: u64,
        /// What comes there.
        new: u64,
    },
}

impl Access {
    /// What the word is afterwards.
    fn on(self, word: u64) -> u64 {
        match self {
            Self::Store(value) => value,
            Self::Replace { current, new } if current == word => new,
            Self::Replace { .. } | Self::Load => word,
        }
    }
}

/// A thread: its accesses are all to words of this memory.
pub type Thread<'a, T> = &'a dyn Fn(&[AtomicU64]) -> T;

/// Walks through all orders of the threads' accesses, so many copies of each thread, and calls `check` with the memory
/// and the threads' results at the end of each (once for those that end alike): the number of states.
///
/// # Panics
/// As a thread or `check` does; the accesses that led there are printed.
pub fn explore<T: Clone>(
    memory: &[u64],
    threads: &[(usize, Thread<T>)],
    check: impl Fn(&[u64], &[T]),
) -> usize {
    let mut footprints = vec![Footprint::default(); threads.len()];
    loop {
        let mut search = Search {
            trees: Vec::new(),
            check: &check,
            hashers: Default::default(),
            seen: HashSet::new(),
            path: Path::default(),
        };
        let written = footprints
            .iter()
            .fold(0, |written, one| written | one.written);
        let mut places = Vec::new();
        for (tree, &(copies, body)) in threads.iter().enumerate() {
            search
                .trees
                .push(Tree::new(body, memory, written, footprints[tree]));
            places.extend(iter::repeat_n(Place { tree, node: 0 }, copies));
        }
        search.visit(memory, &places);
        let learnt: Vec<_> = search.trees.iter().map(|tree| tree.footprint).collect();
        if learnt == footprints {
            return search.seen.len();
        }
        footprints = learnt;
    }
}

/// Words that a thread may access, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Footprint {
    accessed: u64,
    written: u64,
}

impl Footprint {
    fn of(word: usize, access: Access) -> Self {
        let word = 1 << word;
        Self {
            accessed: word,
            written: if matches!(access, Access::Load) {
                0
            } else {
                word
            },
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            accessed: self.accessed | other.accessed,
            written: self.written | other.written,
        }
    }

    /// Whether it matters which of the two comes first.
    fn conflicts(self, other: Self) -> bool {
        (self.accessed & other.written) | (self.written & other.accessed) != 0
    }
}

/// How far a thread is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    tree: usize,
    node: usize,
}

struct Search<'a, T, C> {
    trees: Vec<Tree<'a, T>>,
    check: &'a C,
    /// For hashes of 128 bits.
    hashers: [RandomState; 2],
    /// The hashes of states: copies of a thread may change places.
    seen: HashSet<[u64; 2]>,
    path: Path,
}

impl<T: Clone, C: Fn(&[u64], &[T])> Search<'_, T, C> {
    fn visit(&mut self, memory: &[u64], places: &[Place]) {
        let mut sorted = places.to_vec();
        sorted.sort_unstable();
        let state = (memory, sorted);
        let hash = self
            .hashers
            .each_ref()
            .map(|hasher| hasher.hash_one(&state));
        if !self.seen.insert(hash) {
            return;
        }
        let mut results = Vec::new();
        let mut accesses = Vec::new();
        for (thread, &Place { tree, node }) in places.iter().enumerate() {
            match &self.trees[tree].nodes[node].next {
                Next::Done(result) => results.push(result.clone()),
                &Next::Access(word, access) => accesses.push((thread, word, access)),
            }
        }
        if accesses.is_empty() {
            (self.check)(memory, &results);
        }
        let first = accesses.iter().position(|&(thread, word, access)| {
            let mut others = accesses.iter().filter(|other| other.0 != thread);
            let footprint = Footprint::of(word, access);
            !others.any(|other| footprint.conflicts(self.trees[places[other.0].tree].footprint))
        });
        let chosen = first.map_or(&accesses[..], |first| &accesses[first..=first]);
        for &(thread, word, access) in chosen {
            let Place { tree, node } = places[thread];
            let found = memory[word];
            let (mut memory, mut places) = (memory.to_vec(), places.to_vec());
            memory[word] = access.on(found);
            places[thread].node = self.trees[tree].after(node, found);
            if self.trees.iter().any(|tree| tree.has_learnt) {
                return;
            }
            self.path.0.push((thread, word, access, found));
            self.visit(&memory, &places);
            self.path.0.pop();
        }
    }
}

/// The accesses up to now: thread, word, access, and what it found. Printed if something panics.
#[derive(Default)]
struct Path(Vec<(usize, usize, Access, u64)>);

impl Drop for Path {
    fn drop(&mut self) {
        if thread::panicking() {
            for (thread, word, access, found) in &self.0 {
                eprintln!("thread {thread}: word {word} is {found:#x}: {access:x?}");
            }
        }
    }
}

/// What a thread does, depending on what it finds.
struct Tree<'a, T> {
    body: Thread<'a, T>,
    /// Words that any thread writes. Loads of others are no nodes.
    written: u64,
    footprint: Footprint,
    /// Whether there is more in the footprint than there was at first.
    has_learnt: bool,
    /// As at first, but for what runs leave in words that somebody writes: nobody reads that, for accesses to those
    /// are handed what they find.
    memory: Vec<AtomicU64>,
    nodes: Vec<Node<T>>,
}

struct Node<T> {
    found: Vec<u64>,
    next: Next<T>,
    children: HashMap<u64, usize>,
}

#[derive(Clone)]
enum Next<T> {
    Access(usize, Access),
    Done(T),
}

impl<'a, T> Tree<'a, T> {
    fn new(body: Thread<'a, T>, memory: &[u64], written: u64, footprint: Footprint) -> Self {
        let mut tree = Self {
            body,
            written,
            footprint,
            has_learnt: false,
            memory: memory.iter().map(|&word| AtomicU64::new(word)).collect(),
            nodes: Vec::new(),
        };
        tree.add(Vec::new());
        tree
    }

    /// The node after one whose access found this.
    fn after(&mut self, node: usize, found: u64) -> usize {
        let Node { next, children, .. } = &self.nodes[node];
        // What else a thread can't see makes no difference to it.
        let found = match next {
            Next::Access(_, Access::Store(_)) => 0,
            Next::Access(_, Access::Replace { current, .. }) if found != *current => !current,
            _ => found,
        };
        if let Some(&child) = children.get(&found) {
            return child;
        }
        let mut sequence = self.nodes[node].found.clone();
        sequence.push(found);
        let child = self.add(sequence);
        self.nodes[node].children.insert(found, child);
        child
    }

    fn add(&mut self, found: Vec<u64>) -> usize {
        let next = self.run(&found);
        if let Next::Access(word, access) = next {
            let footprint = self.footprint.with(Footprint::of(word, access));
            self.has_learnt |= footprint != self.footprint;
            self.footprint = footprint;
        }
        self.nodes.push(Node {
            found,
            next,
            children: HashMap::new(),
        });
        self.nodes.len() - 1
    }

    /// Runs the thread up to the access after those that found `found`.
    fn run(&self, found: &[u64]) -> Next<T> {
        RUN.set(Some(Run {
            memory: self.memory.as_ptr(),
            written: self.written,
            found: found.iter().rev().copied().collect(),
            next: None,
        }));
        let result = catch_unwind(AssertUnwindSafe(|| (self.body)(&self.memory)));
        let run = RUN.take().expect("nobody else takes it");
        match (result, run.next) {
            (Ok(result), _) => Next::Done(result),
            (Err(_), Some((word, access))) => Next::Access(word, access),
            (Err(panic), None) => resume_unwind(panic),
        }
    }
}

struct Run {
    memory: *const AtomicU64,
    written: u64,
    /// What the next accesses find, the last one first.
    found: Vec<u64>,
    next: Option<(usize, Access)>,
}

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// Called before each access. In a run: makes the word what the access is to find, or ends the run, unless it loads what
/// nobody writes. Otherwise nothing.
pub fn before_access(word: &AtomicU64, access: Access) {
    RUN.with_borrow_mut(|run| {
        let Some(run) = run else {
            return;
        };
        let index = (core::ptr::from_ref(word).addr() - run.memory.addr()) / size_of::<AtomicU64>();
        if matches!(access, Access::Load) && run.written >> index & 1 == 0 {
            return;
        }
        if let Some(found) = run.found.pop() {
            word.store(found, Relaxed);
            return;
        }
        run.next = Some((index, access));
        // Without a word on stderr.
        resume_unwind(Box::new(()));
    });
}

mod tests {
    use super::std::{cell::RefCell, collections::BTreeSet};
    use core::sync::atomic::AtomicU64;

    use super::explore;
    use crate::atomic::{load, replace, store};

    /// The sums that two threads can leave that each add 1.
    fn sums(add: fn(&[AtomicU64])) -> BTreeSet<u64> {
        let sums = RefCell::new(BTreeSet::new());
        explore(&[0], &[(2, &add)], |memory, _| {
            sums.borrow_mut().insert(memory[0]);
        });
        sums.into_inner()
    }

    #[test]
    fn an_addition_by_load_and_store_may_be_lost() {
        assert_eq!(
            sums(|memory| store(&memory[0], load(&memory[0]) + 1)),
            BTreeSet::from([1, 2])
        );
    }

    #[test]
    fn an_addition_by_exchange_is_never_lost() {
        assert_eq!(
            sums(|memory| {
                while {
                    let value = load(&memory[0]);
                    !replace(&memory[0], value, value + 1)
                } {}
            }),
            BTreeSet::from([2])
        );
    }

    #[test]
    fn of_two_threads_that_write_and_then_look_for_the_other_one_at_least_sees_it() {
        let thread = |mine: usize| {
            move |memory: &[AtomicU64]| {
                replace(&memory[mine], 0, 1);
                load(&memory[1 - mine]) == 1
            }
        };
        let states = explore(&[0, 0], &[(1, &thread(0)), (1, &thread(1))], |_, saw| {
            assert!(saw[0] || saw[1]);
        });
        assert!(states > 6);
    }
}
