//! Many entries of a map in one system call, which aya has none for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use aya::Pod;

/// bpf(2), linux/bpf.h: `enum bpf_cmd`.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// linux/bpf.h: `union bpf_attr`, the part for batches.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The first `entries` entries of a per-CPU array (Linux 5.13): of each what every possible CPU has, one after the other.
///
/// # Errors
/// The kernel's.
pub fn per_cpu_entries<T: Pod + Default>(
    map: impl AsFd,
    entries: u32,
    cpus: usize,
) -> io::Result<Vec<T>> {
    // The kernel rounds each CPU's value up to 8 bytes.
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    let mut keys = vec![0_u32; entries as usize];
    let mut values = vec![T::default(); entries as usize * cpus];
    let mut next = 0_u32;
    let mut attributes = Attributes {
        in_batch: 0,
        out_batch: (&raw mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: entries,
        map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes `count` keys of 4 bytes, as many times `cpus` values, and one key, for all of which there is
    // room.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_LOOKUP_BATCH,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(values)
}
