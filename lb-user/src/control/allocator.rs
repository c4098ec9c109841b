//! Which parts of a table are in use.

use std::collections::BTreeMap;

/// Hands out ranges of indices, the lowest that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// First index and length of each free range. No two touch.
    free: BTreeMap<u32, u32>,
}

impl Allocator {
    /// All indices from `first` up to but not `end` are free.
    pub fn new(first: u32, end: u32) -> Self {
        Self {
            free: BTreeMap::from([(first, end - first)]),
        }
    }

    /// The first index of a free range of `len`, which is in use from now on; `None` if there is none.
    pub fn allocate(&mut self, len: u32) -> Option<u32> {
        let (&start, &free) = self.free.iter().find(|&(_, &free)| free >= len)?;
        self.free.remove(&start);
        if free > len {
            self.free.insert(start + len, free - len);
        }
        Some(start)
    }

    /// Takes a given range. `false` if some of it is in use or out of bounds: then nothing is taken.
    #[must_use]
    pub fn reserve(&mut self, start: u32, len: u32) -> bool {
        let Some((&free_start, &free)) = self.free.range(..=start).next_back() else {
            return false;
        };
        let Some(end) = start.checked_add(len) else {
            return false;
        };
        let free_end = free_start + free;
        if end > free_end {
            return false;
        }
        self.free.remove(&free_start);
        if start > free_start {
            self.free.insert(free_start, start - free_start);
        }
        if free_end > end {
            self.free.insert(end, free_end - end);
        }
        true
    }

    /// How many indices are free.
    pub fn free(&self) -> u32 {
        self.free.values().sum()
    }

    /// Gives a range back.
    ///
    /// # Panics
    ///
    /// If some of it is free already.
    pub fn release(&mut self, mut start: u32, mut len: u32) {
        if let Some((&before, &before_len)) = self.free.range(..=start).next_back() {
            assert!(before + before_len <= start, "{start} is free already");
            if before + before_len == start {
                self.free.remove(&before);
                (start, len) = (before, before_len + len);
            }
        }
        if let Some((&after, &after_len)) = self.free.range(start + 1..).next() {
            assert!(start + len <= after, "{after} is free already");
            if start + len == after {
                self.free.remove(&after);
                len += after_len;
            }
        }
        self.free.insert(start, len);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_come_back() {
        let mut allocator = Allocator::new(1, 11);
        assert_eq!(allocator.allocate(4), Some(1));
        assert_eq!(allocator.allocate(4), Some(5));
        assert_eq!(allocator.allocate(4), None);
        allocator.release(1, 4);
        assert_eq!(allocator.allocate(2), Some(1));
        assert_eq!(allocator.allocate(2), Some(3));
        assert_eq!(allocator.allocate(2), Some(9));
        assert_eq!(allocator.allocate(1), None);
    }

    #[test]
    fn a_range_is_reserved_only_if_all_of_it_is_free() {
        let mut allocator = Allocator::new(1, 11);
        assert!(allocator.reserve(4, 3));
        assert!(!allocator.reserve(6, 2));
        assert!(!allocator.reserve(0, 2));
        assert!(!allocator.reserve(9, 3));
        assert!(!allocator.reserve(9, u32::MAX));
        assert!(allocator.reserve(7, 4));
        assert_eq!(allocator.free(), 3);
        assert_eq!(allocator.allocate(3), Some(1));
        assert_eq!(allocator.allocate(1), None);
        assert_eq!(allocator.free(), 0);
    }

    proptest! {
        #[test]
        fn all_that_is_released_can_be_allocated_as_one(lengths in prop::collection::vec(1u32..20, 1..30)) {
            let mut allocator = Allocator::new(0, 600);
            let mut ranges: Vec<_> = lengths
                .into_iter()
                .map(|len| (allocator.allocate(len).unwrap(), len))
                .collect();
            ranges.sort_unstable();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
            // Inside out, so that ranges join on both sides.
            ranges.sort_by_key(|range| range.1 ^ (range.0 % 7));
            for (start, len) in ranges {
                allocator.release(start, len);
            }
            prop_assert_eq!(allocator.allocate(600), Some(0));
        }
    }
}
