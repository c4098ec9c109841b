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
        // SAFETY: the kernel says that the packet lies there, and lends it to this program.
        unsafe { Frame::new(self.0.data() as *mut u8, self.0.data_end() as *mut u8) }
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
