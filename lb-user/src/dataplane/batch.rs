//! Many entries of a map in one system call, which aya has none for.

use std::{
    io,
    ops::Range,
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

/// What one call reads, at most, in bytes, unless an entry is larger: all entries of all CPUs at once may be hundreds of MB.
const BATCH: usize = 256 << 10;

/// Shows these entries of a per-CPU array (Linux 5.13) in their order: of each its index, and what every possible CPU has.
///
/// # Errors
/// The kernel's.
pub fn visit_per_cpu_entries<T: Pod + Default>(
    map: impl AsFd,
    entries: Range<u32>,
    cpus: usize,
    mut visit: impl FnMut(u32, &[T]),
) -> io::Result<()> {
    // The kernel rounds each CPU's value up to 8 bytes.
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    let in_batch = (BATCH / (cpus * size_of::<T>())).clamp(1, entries.len().max(1));
    let mut keys = vec![0_u32; in_batch];
    let mut values = vec![T::default(); in_batch * cpus];
    // The last one that was read, which the kernel goes on after.
    let mut last = entries.start.saturating_sub(1);
    for first in entries.clone().step_by(in_batch) {
        let count = in_batch.min((entries.end - first) as usize);
        let place = (&raw mut last) as u64;
        let mut attributes = Attributes {
            in_batch: if first == 0 { 0 } else { place },
            out_batch: place,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: count as u32,
            map_fd: map.as_fd().as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel reads one key and writes one, and `count` keys of 4 bytes, and as many times `cpus` values, for
        // all of which there is room.
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
        let values = values[..count * cpus].chunks_exact(cpus);
        (first..)
            .zip(values)
            .for_each(|(index, it)| visit(index, it));
    }
    Ok(())
}
