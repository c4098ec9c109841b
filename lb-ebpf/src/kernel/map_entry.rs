//! Entries of maps, for more than their types allow.

use core::{ffi::c_void, sync::atomic::AtomicU64};

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    helpers::bpf_map_lookup_elem,
};

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

/// The entry whose index lies at this address. The kernel's lookup reads it there, without a detour over the stack.
#[inline(always)]
pub fn at<'array, T, const LEN: usize, const FLAGS: usize>(
    array: &'array Array<T, LEN, FLAGS>,
    index: &u32,
) -> Option<&'array T> {
    // SAFETY: an array of such entries, which stay.
    unsafe { look_up(array, index).cast::<T>().as_ref() }
}

/// This CPU's own entry, to change. Who has it is done with it before anyone asks for it again.
#[expect(clippy::mut_from_ref, reason = "each CPU has its own")]
#[inline(always)]
pub fn own<T, const LEN: usize>(array: &PerCpuArray<T, LEN>, index: u32) -> Option<&mut T> {
    // SAFETY: an array of such entries, which stay; and XDP programs do not interrupt one another.
    unsafe { look_up(array, &index).cast::<T>().as_mut() }
}

/// Where an entry of a map is; null if there is none.
///
/// # Safety
///
/// The map's keys must be of this type.
#[inline(always)]
unsafe fn look_up<Map>(map: &Map, key: &u32) -> *mut c_void {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    // SAFETY: a map, and a key as its entries have.
    unsafe { bpf_map_lookup_elem(map, core::ptr::from_ref(key).cast()) }
}
