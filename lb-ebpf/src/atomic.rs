//! What the session table needs of atomics. `core` has no read-modify-write for this target, and the instruction set in
//! use (v3) no acquiring loads.

use core::sync::atomic::AtomicU64;

#[cfg(test)]
use crate::interleavings::{Access, before_access};

/// A load that later loads come after. In the kernel that is so on machines with total store order, such as x86.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn load(word: &AtomicU64) -> u64 {
    // SAFETY: the reference is valid, and 8 bytes are aligned to 8: one instruction, which the compiler keeps in order
    // with the others of its kind.
    unsafe { word.as_ptr().read_volatile() }
}

/// As in the kernel.
#[cfg(not(target_arch = "bpf"))]
pub fn load(word: &AtomicU64) -> u64 {
    #[cfg(test)]
    before_access(word, Access::Load);
    word.load(core::sync::atomic::Ordering::Acquire)
}

/// A store that comes after earlier loads and stores. As for [`load`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn store(word: &AtomicU64, value: u64) {
    // SAFETY: as in `load`.
    unsafe { word.as_ptr().write_volatile(value) }
}

/// As in the kernel.
#[cfg(not(target_arch = "bpf"))]
pub fn store(word: &AtomicU64, value: u64) {
    #[cfg(test)]
    before_access(word, Access::Store(value));
    word.store(value, core::sync::atomic::Ordering::Release);
}

/// Replaces `current` by `new`; `false` if something else was there. A full barrier, on every machine whose just-in-time
/// compiler follows the kernel's memory model (Documentation/atomic_t.txt: a value-returning operation without a
/// suffix).
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn replace(word: &AtomicU64, current: u64, new: u64) -> bool {
    let mut found = current;
    // SAFETY: the reference is valid, and 8 bytes are aligned to 8.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word.as_ptr(),
            new = in(reg) new,
            inout("r0") found,
        );
    }
    found == current
}

/// As in the kernel.
#[cfg(not(target_arch = "bpf"))]
pub fn replace(word: &AtomicU64, current: u64, new: u64) -> bool {
    use core::sync::atomic::{Ordering::SeqCst, fence};
    #[cfg(test)]
    before_access(word, Access::Replace { current, new });
    let replaced = word.compare_exchange(current, new, SeqCst, SeqCst);
    // Loads that follow are no part of the order of such exchanges, unless there is a fence.
    fence(SeqCst);
    replaced.is_ok()
}

/// Adds to a word: what was there before.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn fetch_add(word: &AtomicU64, number: u64) -> u64 {
    let mut value = number;
    // SAFETY: as in `replace`.
    unsafe {
        core::arch::asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word.as_ptr(),
            value = inout(reg) value,
        );
    }
    value
}

/// As in the kernel.
#[cfg(not(target_arch = "bpf"))]
pub fn fetch_add(word: &AtomicU64, number: u64) -> u64 {
    word.fetch_add(number, core::sync::atomic::Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::thread;

    use super::*;

    /// Miri lets a thread see old values wherever the memory model allows that.
    #[test]
    fn of_two_threads_that_replace_a_word_and_then_load_the_others_one_sees_it() {
        for _ in 0..100 {
            let words = [AtomicU64::new(0), AtomicU64::new(0)];
            let look = |mine: usize| {
                assert!(replace(&words[mine], 0, 1));
                load(&words[1 - mine])
            };
            let seen = thread::scope(|scope| {
                let other = scope.spawn(|| look(0));
                [look(1), other.join().unwrap()]
            });
            assert_ne!(seen, [0, 0]);
        }
    }
}
