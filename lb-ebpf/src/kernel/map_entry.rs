//! Entries of maps, for more than their types allow.

use core::sync::atomic::AtomicU64;

use aya_ebpf::btf_maps::{Array, PerCpuArray};

/// An entry as words. Nobody accesses such an array but by atomic operations.
#[inline(always)]
pub fn words<T, const W: usize, const LEN: usize, const FLAGS: usize>(
    array: &Array<T, LEN, FLAGS>,
    index: u32,
) -> Option<&[AtomicU64; W]> {
    const {
        assert!(size_of::<T>() == size_of::<[AtomicU64; W]>());
        assert!(align_of::<T>() >= align_of::<AtomicU64>());
    }
    // SAFETY: they are as many, and aligned.
    array.get_ptr(index).map(|entry| unsafe { &*entry.cast() })
}

/// This CPU's own entry, to change. Who has it is done with it before anyone asks for it again.
#[expect(clippy::mut_from_ref, reason = "each CPU has its own")]
#[inline(always)]
pub fn own<T, const LEN: usize>(array: &PerCpuArray<T, LEN>, index: u32) -> Option<&mut T> {
    // SAFETY: XDP programs do not interrupt one another.
    array.get_ptr_mut(index).map(|entry| unsafe { &mut *entry })
}
