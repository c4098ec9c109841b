//! Access to the bytes of a packet, checked once per header.
//!
//! The verifier wants to see a pointer compared with the packet's end before it is used, and cannot follow a
//! slice's length; so a [`Frame`] is a pair of pointers, and [`Frame::view`] is the one place where
//! they are compared. A [`View`] then proves that its bytes are there, and its accessors need no
//! further check. This is the only file that touches packet memory.

use core::marker::PhantomData;

use crate::checksum::Checksum;

/// A packet that can change its length.
#[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
pub trait Packet {
    /// The bytes from the Ethernet header on. Of a packet in several buffers, those in the first one.
    fn frame(&mut self) -> Frame<'_>;

    /// How many bytes the packet has, in all buffers.
    fn len(&mut self) -> u64;

    /// Whether it ends at `end` or later.
    #[inline(always)]
    fn reaches(&mut self, end: usize) -> bool {
        let end = end as u64;
        end <= self.frame().len() || end <= self.len()
    }

    /// Makes the packet longer (by zeros, at the end) or shorter. `false` if there is no room: then
    /// nothing changed.
    fn adjust_tail(&mut self, bytes: i32) -> bool;

    /// Makes the packet longer (`bytes` below 0) or shorter at its beginning. What new bytes hold is not
    /// defined. `false` if there is no room: then nothing changed.
    fn adjust_head(&mut self, bytes: i32) -> bool;

    /// Index of the interface that the packet came in by.
    fn ingress_ifindex(&self) -> u32;
}

/// A packet's bytes, or the rest of them from some header on.
#[derive(Clone, Copy)]
pub struct Frame<'packet> {
    start: *mut u8,
    end: *mut u8,
    packet: PhantomData<&'packet mut [u8]>,
}

/// `N` bytes of a packet that are known to be there.
#[derive(Clone, Copy)]
pub struct View<'packet, const N: usize> {
    start: *mut u8,
    packet: PhantomData<&'packet mut [u8]>,
}

impl<'packet> Frame<'packet> {
    /// The bytes from `start` up to `end`.
    ///
    /// # Safety
    ///
    /// They must be one allocation (or XDP's `data` and `data_end`) that nothing else uses and nothing moves
    /// during `'packet`.
    #[inline(always)]
    pub const unsafe fn new(start: *mut u8, end: *mut u8) -> Self {
        Self {
            start,
            end,
            packet: PhantomData,
        }
    }

    /// How many bytes there are.
    #[inline(always)]
    pub fn len(self) -> u64 {
        // Where only 32 bits of it are needed the compiler would subtract only those, and the verifier allows no such
        // arithmetic on pointers.
        opaque_difference(self.end as u64, self.start as u64)
    }

    /// Whether there are no bytes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The first `N` bytes, if there are as many.
    #[inline(always)]
    pub fn view<const N: usize>(self) -> Option<View<'packet, N>> {
        if self.start.wrapping_add(N) > self.end {
            return None;
        }
        // SAFETY: just checked.
        Some(unsafe { self.known(0) })
    }

    /// The first `A` bytes, the `B` bytes behind them and the `C` bytes behind those, if there are as many.
    #[inline(always)]
    pub fn views<const A: usize, const B: usize, const C: usize>(
        self,
    ) -> Option<(View<'packet, A>, View<'packet, B>, View<'packet, C>)> {
        if self.start.wrapping_add(A + B + C) > self.end {
            return None;
        }
        // SAFETY: just checked.
        Some(unsafe { (self.known(0), self.known(A), self.known(A + B)) })
    }

    /// `N` bytes, `offset` bytes behind the first one.
    ///
    /// # Safety
    ///
    /// They must be there.
    #[inline(always)]
    const unsafe fn known<const N: usize>(self, offset: usize) -> View<'packet, N> {
        View {
            start: self.start.wrapping_add(offset),
            packet: PhantomData,
        }
    }

    /// What follows the first `bytes`, if there are as many.
    #[inline(always)]
    pub fn skip(self, bytes: usize) -> Option<Self> {
        let start = self.start.wrapping_add(bytes);
        (start <= self.end).then_some(Self { start, ..self })
    }

    /// As [`Self::skip`], where the verifier needs the place to be computed as it is written.
    #[inline(always)]
    pub fn skip_to(self, bytes: usize) -> Option<Self> {
        let start = self.start.wrapping_add(opaque(bytes as u64) as usize);
        let start = start.with_addr(opaque(start.addr() as u64) as usize);
        (start <= self.end).then_some(Self { start, ..self })
    }
}

/// Loads and stores of a type at a constant offset. Values are as they lie in memory: `u16::from_be` and
/// its like turn them into numbers.
macro_rules! accessors {
    ($($load:ident $store:ident $type:ty;)*) => {$(
        /// The value at `OFFSET`, in the byte order of the packet.
        #[inline(always)]
        pub fn $load<const OFFSET: usize>(self) -> $type {
            const { assert!(OFFSET + size_of::<$type>() <= N) };
            // SAFETY: the view proves that the bytes are there.
            unsafe { load(self.start.add(OFFSET).cast()) }
        }

        /// Puts `value`, in the byte order of the packet, at `OFFSET`.
        #[inline(always)]
        pub fn $store<const OFFSET: usize>(self, value: $type) {
            const { assert!(OFFSET + size_of::<$type>() <= N) };
            // SAFETY: the view proves that the bytes are there.
            unsafe { store(self.start.add(OFFSET).cast(), value) }
        }
    )*};
}

impl<const N: usize> View<'_, N> {
    /// Adds all bytes to a checksum; `N` is a multiple of 8.
    #[inline(always)]
    pub fn add_to(self, mut checksum: Checksum) -> Checksum {
        const { assert!(N.is_multiple_of(8)) };
        for index in 0..N / 8 {
            // SAFETY: the view proves that the bytes are there.
            checksum = checksum.add_u64(unsafe { load(self.start.add(index * 8).cast()) });
        }
        checksum
    }

    /// Puts words, as they lie in memory, over all bytes.
    #[inline(always)]
    pub fn set_all<const W: usize>(self, words: &[u64; W]) {
        const { assert!(W * 8 == N) };
        for (index, &word) in words.iter().enumerate() {
            // SAFETY: the view proves that the bytes are there.
            unsafe { store(self.start.add(index * 8).cast(), word) };
        }
    }

    accessors! {
        u8 set_u8 u8;
        u16 set_u16 u16;
        u32 set_u32 u32;
        u64 set_u64 u64;
    }

    /// The MAC address at `OFFSET`.
    #[inline(always)]
    pub fn mac<const OFFSET: usize>(self) -> [u8; 6] {
        const { assert!(OFFSET + 6 <= N) };
        // SAFETY: the view proves that the bytes are there.
        unsafe {
            let [a, b, c, d] = load::<u32>(self.start.add(OFFSET).cast()).to_ne_bytes();
            let [e, f] = load::<u16>(self.start.add(OFFSET + 4).cast()).to_ne_bytes();
            [a, b, c, d, e, f]
        }
    }

    /// The MAC address at the beginning, as a machine word and half a one.
    #[inline(always)]
    pub fn first_mac_words(self) -> (u32, u16) {
        (self.u32::<0>(), self.u16::<4>())
    }

    /// Puts a MAC address at `OFFSET`.
    #[inline(always)]
    pub fn set_mac<const OFFSET: usize>(self, [a, b, c, d, e, f]: [u8; 6]) {
        const { assert!(OFFSET + 6 <= N) };
        // SAFETY: the view proves that the bytes are there.
        unsafe {
            store(
                self.start.add(OFFSET).cast(),
                u32::from_ne_bytes([a, b, c, d]),
            );
            store(
                self.start.add(OFFSET + 4).cast(),
                u16::from_ne_bytes([e, f]),
            );
        }
    }
}

/// The value as it is, but the compiler does not know how it came about. It would compute a place in the packet
/// from a later one, or check one pointer and use an equal one, and the verifier follows neither.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn opaque(mut value: u64) -> u64 {
    // SAFETY: a move. Without any instruction the kernel would refuse the line information.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
    value
}

/// The value as it is.
#[cfg(not(target_arch = "bpf"))]
pub const fn opaque(value: u64) -> u64 {
    value
}

/// `a - b`; but the compiler doesn't know that, as with [`opaque`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn opaque_difference(mut a: u64, b: u64) -> u64 {
    // SAFETY: a subtraction.
    unsafe {
        core::arch::asm!("{0} -= {1}", inout(reg) a, in(reg) b, options(pure, nomem, nostack));
    }
    a
}

/// `a - b`.
#[cfg(not(target_arch = "bpf"))]
pub const fn opaque_difference(a: u64, b: u64) -> u64 {
    a.wrapping_sub(b)
}

/// Headers are not aligned to their fields. The verifier allows unaligned packet access where the
/// machine does (kernel/bpf/verifier.c, `check_pkt_ptr_alignment`), but the compiler doesn't know, and
/// would load byte by byte.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn load<T>(pointer: *const T) -> T {
    // SAFETY: the caller checked the bounds; the target has no alignment trap.
    unsafe { pointer.read() }
}

#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn store<T>(pointer: *mut T, value: T) {
    // SAFETY: as for `load`.
    unsafe { pointer.write(value) }
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn load<T>(pointer: *const T) -> T {
    // SAFETY: the caller checked the bounds.
    unsafe { pointer.read_unaligned() }
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn store<T>(pointer: *mut T, value: T) {
    // SAFETY: the caller checked the bounds.
    unsafe { pointer.write_unaligned(value) }
}

#[cfg(test)]
mod tests;
