//! How much of something may be done in a time.

use bytemuck::{Pod, Zeroable};

/// Value of the per-CPU maps `error_budget` and `session_budget`: what this CPU has spent in a [`Budget::WINDOW`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Budget {
    /// The window that was last seen, counted from the clock's zero.
    pub window: u64,
    /// What was taken in it.
    pub taken: u64,
}

impl Budget {
    /// Nanoseconds of a window: about an eighth of a second, and a shift where a division would be dear.
    pub const WINDOW: u64 = 1 << 27;
    /// ICMP errors that each CPU may send in a window: about 1,000 a second (RFC 1812 section 4.3.2.8, RFC 4443 section
    /// 2.4 f).
    pub const ERRORS: u64 = 134;

    /// What a window may have if a second may have so many.
    pub const fn in_window(in_second: u32) -> u32 {
        (in_second as u64 * Self::WINDOW).div_ceil(1_000_000_000) as u32
    }

    /// Takes one, if there is one left of `limit`. `now` is in nanoseconds.
    #[inline(always)]
    pub const fn take(&mut self, limit: u64, now: u64) -> bool {
        let window = now / Self::WINDOW;
        if self.window != window {
            *self = Self { window, taken: 0 };
        }
        let left = self.taken < limit;
        if left {
            self.taken += 1;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_allows_so_many_and_the_next_one_as_many_again() {
        let mut budget = Budget::default();
        for window in [0, 1, 7] {
            let now = window * Budget::WINDOW;
            assert!((0..100).all(|one| budget.take(100, now + one)));
            assert!(!budget.take(100, now + Budget::WINDOW - 1));
        }
    }

    #[test]
    fn a_window_has_its_part_of_a_second() {
        assert_eq!(Budget::in_window(1000), Budget::ERRORS as u32 + 1);
        assert_eq!(Budget::in_window(1), 1);
        assert_eq!(Budget::in_window(100_000_000), 13_421_773);
    }
}
