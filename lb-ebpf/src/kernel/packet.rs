//! A packet in an XDP context.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};

use crate::{Frame, Packet};

/// The packet of an XDP context.
pub struct XdpPacket<'context>(pub &'context XdpContext);

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn frame(&mut self) -> Frame<'_> {
        // The fields have 32 bits; the verifier makes pointers of them when they are loaded. The compiler may load one for several
        // ways at once, and pass it on as the 32 bits that it takes it for: that would be no pointer any more. So each frame
        // loads its own.
        // SAFETY: the kernel says that the packet lies there, and lends it to this program.
        unsafe {
            let start = (&raw const (*self.0.ctx).data).read_volatile();
            let end = (&raw const (*self.0.ctx).data_end).read_volatile();
            Frame::new(start as usize as *mut u8, end as usize as *mut u8)
        }
    }

    #[inline(always)]
    fn len(&mut self) -> u64 {
        // SAFETY: a plain helper call.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) }
    }

    #[inline(always)]
    fn adjust_tail(&mut self, bytes: i32) -> bool {
        // SAFETY: no frame of this packet outlives the borrow of `self`.
        unsafe { bpf_xdp_adjust_tail(self.0.ctx, bytes) == 0 }
    }

    #[inline(always)]
    fn adjust_head(&mut self, bytes: i32) -> bool {
        // SAFETY: as in `adjust_tail`.
        unsafe { bpf_xdp_adjust_head(self.0.ctx, bytes) == 0 }
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }
}
