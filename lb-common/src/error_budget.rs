//! How many ICMP errors may be sent.

use bytemuck::{Pod, Zeroable};

/// Value of the per-CPU map `error_budget`: at most [`ErrorBudget::ERRORS`] in each
/// [`ErrorBudget::WINDOW`] on each CPU (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ErrorBudget {
    /// The window that was last seen, counted from the clock's zero.
    pub window: u64,
    /// Errors sent in it.
    pub sent: u64,
}

impl ErrorBudget {
    /// Errors in a window: 1,000 a second.
    pub const ERRORS: u64 = 100;
    /// Nanoseconds of a window.
    pub const WINDOW: u64 = 100_000_000;

    /// Takes one, if there is one left. `now` is in nanoseconds.
    #[inline(always)]
    pub const fn take(&mut self, now: u64) -> bool {
        let window = now / Self::WINDOW;
        if self.window != window {
            *self = Self { window, sent: 0 };
        }
        let left = self.sent < Self::ERRORS;
        if left {
            self.sent += 1;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_allows_so_many_errors_and_the_next_one_as_many_again() {
        let mut budget = ErrorBudget::default();
        for window in [0, 1, 7] {
            let now = window * ErrorBudget::WINDOW;
            assert!((0..ErrorBudget::ERRORS).all(|error| budget.take(now + error)));
            assert!(!budget.take(now + ErrorBudget::WINDOW - 1));
        }
    }
}
