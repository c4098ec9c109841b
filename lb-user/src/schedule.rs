//! Deadlines, at most one to a key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Schedule<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Ord> Schedule<K> {
    /// Sets or moves the deadline of `key`.
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        self.cancel(&key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    pub(crate) fn cancel(&mut self, key: &K) {
        if let Some((key, at)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(at, key));
        }
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the key with the earliest deadline, if that has passed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        self.by_time.first().filter(|(at, _)| *at <= now)?;
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_come_out_in_the_order_of_their_last_deadline() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::default();
        schedule.set('a', at(1));
        schedule.set('b', at(2));
        schedule.set('c', at(3));
        schedule.set('a', at(4));
        schedule.cancel(&'c');

        assert_eq!(schedule.earliest(), Some(at(2)));
        assert_eq!(schedule.pop_due(at(1)), None);
        assert_eq!(schedule.pop_due(at(4)), Some('b'));
        assert_eq!(schedule.pop_due(at(4)), Some('a'));
        assert_eq!(schedule.pop_due(at(9)), None);
        assert_eq!(schedule.earliest(), None);
    }
}
