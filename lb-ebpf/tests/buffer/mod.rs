//! Packets in memory.

use lb_ebpf::{Frame, Packet};

/// A frame in memory.
pub struct Buffer(pub Vec<u8>);

impl Packet for Buffer {
    fn frame(&mut self) -> Frame<'_> {
        let bytes = self.0.as_mut_ptr_range();
        // SAFETY: one vector, borrowed for as long as the frame lives.
        unsafe { Frame::new(bytes.start, bytes.end) }
    }

    fn len(&mut self) -> u64 {
        self.0.len() as u64
    }

    /// As `bpf_xdp_adjust_head` does (net/core/filter.c), but that it has room for ever.
    fn adjust_head(&mut self, bytes: i32) -> bool {
        const ETHERNET: usize = 14;
        match usize::try_from(bytes) {
            Ok(fewer) if fewer + ETHERNET > self.0.len() => return false,
            Ok(fewer) => drop(self.0.drain(..fewer)),
            Err(_) => drop(self.0.splice(..0, vec![0; bytes.unsigned_abs() as usize])),
        }
        true
    }

    fn adjust_tail(&mut self, _bytes: i32) -> bool {
        unreachable!("nothing here changes the tail")
    }

    fn ingress_ifindex(&self) -> u32 {
        unreachable!("nothing here asks for it")
    }
}
