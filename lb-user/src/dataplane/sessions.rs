//! The session table, the sticky clients, and how many sessions are active, as the daemon sees them.

use std::{
    io,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use lb_common::{
    Address, BucketV4, BucketV6,
    session::{SLOTS, SessionKey, State, V4, V6},
};

use super::{Array, Sizes};

/// Maps that packets write to.
pub struct SessionTables {
    /// Sessions of IPv4.
    pub sessions_v4: Array<BucketV4>,
    /// Sessions of IPv6.
    pub sessions_v6: Array<BucketV6>,
    /// Sticky clients of IPv4.
    pub sticky_v4: Array<BucketV4>,
    /// Sticky clients of IPv6.
    pub sticky_v6: Array<BucketV6>,
    /// Active sessions, by [`lb_common::Binding::counters`].
    pub active: Array<u64>,
    /// Turns that a round robin has handed out, or equal candidates of least connections have taken, by virtual-server id.
    pub turns: Array<u64>,
}

impl SessionTables {
    /// Tables that no kernel program writes to, to try things out on.
    pub fn anonymous(sizes: &Sizes) -> io::Result<Self> {
        Ok(Self {
            sessions_v4: Array::anonymous(sizes.sessions_v4)?,
            sessions_v6: Array::anonymous(sizes.sessions_v6)?,
            sticky_v4: Array::anonymous(sizes.sticky)?,
            sticky_v6: Array::anonymous(sizes.sticky)?,
            active: Array::anonymous(sizes.bindings)?,
            turns: Array::anonymous(sizes.virtual_servers)?,
        })
    }

    /// The tables of sessions.
    pub fn sessions(&self) -> [&dyn SessionTable; 2] {
        [&self.sessions_v4, &self.sessions_v6]
    }

    /// The tables of sticky clients.
    pub fn sticky(&self) -> [&dyn SessionTable; 2] {
        [&self.sticky_v4, &self.sticky_v6]
    }

    /// Active sessions of a binding, by the index of its counters.
    pub fn active(&self, binding_counters: u32) -> u64 {
        let active = self.active.words(binding_counters)[0].load(Ordering::Relaxed);
        // For a moment it may be less than none: a session can end on one CPU before another has counted it.
        active.cast_signed().max(0).cast_unsigned()
    }

    /// Takes an active session from a binding.
    pub fn end_active(&self, binding_counters: u32) {
        self.active.words(binding_counters)[0].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A table of sessions or sticky clients.
pub trait SessionTable {
    /// How many buckets it has.
    fn buckets(&self) -> u32;
    /// Visits the sessions in these buckets.
    fn visit(&self, buckets: Range<u32>, visitor: &mut dyn FnMut(Slot<'_>));
}

impl SessionTable for Array<BucketV4> {
    fn buckets(&self) -> u32 {
        self.len()
    }

    fn visit(&self, buckets: Range<u32>, visitor: &mut dyn FnMut(Slot<'_>)) {
        buckets.for_each(|bucket| sessions(self.words(bucket)).for_each(&mut *visitor));
    }
}

impl SessionTable for Array<BucketV6> {
    fn buckets(&self) -> u32 {
        self.len()
    }

    fn visit(&self, buckets: Range<u32>, visitor: &mut dyn FnMut(Slot<'_>)) {
        buckets.for_each(|bucket| sessions(self.words(bucket)).for_each(&mut *visitor));
    }
}

fn sessions(bucket: &[AtomicU64]) -> impl Iterator<Item = Slot<'_>> {
    let slots = bucket.chunks_exact(bucket.len() / SLOTS);
    slots.filter_map(|words| {
        let (word, key) = words.split_last()?;
        let state = State(word.load(Ordering::Acquire));
        state.is_session().then_some(Slot { state, word, key })
    })
}

/// A place in a table, and the session that was there when it was looked at.
#[derive(Clone, Copy)]
pub struct Slot<'table> {
    /// All of the session but its key.
    pub state: State,
    word: &'table AtomicU64,
    key: &'table [AtomicU64],
}

impl Slot<'_> {
    /// Client address and port, and the VIP's port; `None` if the session is gone.
    pub fn key(&self) -> Option<(Address, u16, u16)> {
        let word = |index: usize| self.key[index].load(Ordering::Acquire);
        let parts = match self.key.len() {
            V4 => SessionKey([word(0)]).parts(),
            V6 => SessionKey([word(0), word(1), word(2)]).parts(),
            words => unreachable!("no key has {words} words"),
        };
        let now = State(self.word.load(Ordering::Acquire));
        now.is_same_session(self.state).then_some(parts)
    }

    /// Takes the session out of the table; `false` if it has changed since it was looked at.
    pub fn free(&self) -> bool {
        let (now, then) = (self.state.0, self.state.freed().0);
        let freed = self
            .word
            .compare_exchange(now, then, Ordering::SeqCst, Ordering::Relaxed);
        freed.is_ok()
    }
}
