//! BPF arrays, mapped into this process's memory.
//!
//! A mapped array is read and written without a system call: 65,536 entries in microseconds where
//! `bpf(2)` needs a tenth of a second. Packets read it at the same time, so all access is by atomic
//! words.

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// An array of `T` that packets read. Sizes of `T` are multiples of 8 bytes, as in the kernel.
pub struct Array<T> {
    words: NonNull<AtomicU64>,
    mapped_bytes: NonZeroUsize,
    len: u32,
    entry: PhantomData<T>,
}

// SAFETY: the memory is owned by this value and only accessed through atomics.
unsafe impl<T: Send> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Array<T> {}

impl<T: Pod> Array<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(8));
        size_of::<T>() / 8
    };

    /// Maps a BPF array with `len` entries of `T` that has the flag `BPF_F_MMAPABLE`.
    pub fn map(fd: impl AsFd, len: u32) -> io::Result<Self> {
        let bytes = Self::mapping_size(len);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let memory = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, fd, 0)? };
        Ok(Self::new(memory.cast(), bytes, len))
    }

    /// An array of zeros that no kernel program reads, to try things out on.
    pub fn anonymous(len: u32) -> io::Result<Self> {
        let bytes = Self::mapping_size(len);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as in `map`.
        let memory = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_PRIVATE)? };
        Ok(Self::new(memory.cast(), bytes, len))
    }

    fn mapping_size(len: u32) -> NonZeroUsize {
        NonZeroUsize::new(len as usize * size_of::<T>()).expect("a BPF array has entries")
    }

    const fn new(words: NonNull<AtomicU64>, mapped_bytes: NonZeroUsize, len: u32) -> Self {
        Self {
            words,
            mapped_bytes,
            len,
            entry: PhantomData,
        }
    }

    /// Number of entries.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Always false: a BPF array has entries.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry at `index`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn get(&self, index: u32) -> T {
        let mut entry = T::zeroed();
        for (copy, word) in bytemuck::bytes_of_mut(&mut entry)
            .chunks_exact_mut(8)
            .zip(self.words(index))
        {
            copy.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        entry
    }

    /// Writes the entry at `index`, its first word last: where an entry is a pointer, or begins with one, what it
    /// leads to is in place before a packet can see it.
    ///
    /// # Panics
    ///
    /// If there is no such entry.
    pub fn set(&self, index: u32, value: T) {
        for (new, word) in bytemuck::bytes_of(&value)
            .chunks_exact(8)
            .zip(self.words(index))
            .rev()
        {
            let new = u64::from_ne_bytes(new.try_into().expect("a chunk of 8 bytes"));
            word.store(new, Ordering::Release);
        }
    }

    /// The entry at `index`, in place.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn entry_ptr(&self, index: u32) -> *const T {
        self.words(index).as_ptr().cast()
    }

    /// The entry at `index`, as words that packets may change.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn words(&self, index: u32) -> &[AtomicU64] {
        assert!(
            index < self.len,
            "index {index} of an array of {}",
            self.len
        );
        let first = index as usize * Self::WORDS;
        // SAFETY: the mapping holds `len` entries of `WORDS` words each, is aligned to a page, and lives as
        // long as `self`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().add(first), Self::WORDS) }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives it. It can't fail for a
        // mapping that exists.
        let _ = unsafe { munmap(self.words.cast(), self.mapped_bytes.get()) };
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{Binding, TableBlock};

    use super::*;

    #[test]
    fn an_array_starts_with_zeros_and_keeps_what_is_written() {
        let array = Array::<Binding>::anonymous(1000).unwrap();
        assert_eq!(array.get(999), Binding::default());
        let binding = Binding {
            real_server: 7,
            counters: 8,
        };
        array.set(999, binding);
        assert_eq!(array.get(999), binding);
        assert_eq!(array.get(998), Binding::default());
    }

    #[test]
    fn entries_of_many_words_are_kept_apart() {
        let array = Array::<TableBlock>::anonymous(3).unwrap();
        let block = TableBlock {
            slots: std::array::from_fn(|slot| slot as u16),
        };
        array.set(1, block);
        assert_eq!(array.get(1), block);
        assert_eq!([array.get(0), array.get(2)], [TableBlock::default(); 2]);
    }

    #[test]
    #[should_panic(expected = "index 3 of an array of 3")]
    fn an_entry_past_the_end_is_refused() {
        Array::<Binding>::anonymous(3).unwrap().get(3);
    }
}
