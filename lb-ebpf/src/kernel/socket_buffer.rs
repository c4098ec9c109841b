//! A packet in a socket buffer, as tc programs see it.

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::{bpf_skb_adjust_room, bpf_skb_change_tail},
    programs::TcContext,
};

use crate::{Frame, Packet, parse::IPV4};

/// The packet of a tc context.
pub struct SocketBuffer<'context>(pub &'context TcContext);

impl Packet for SocketBuffer<'_> {
    #[inline(always)]
    fn frame(&mut self) -> Frame<'_> {
        // SAFETY: the kernel says that the packet lies there, and lends it to this program.
        unsafe { Frame::new(self.0.data() as *mut u8, self.0.data_end() as *mut u8) }
    }

    #[inline(always)]
    fn len(&mut self) -> u64 {
        self.0.len().into()
    }

    #[inline(always)]
    fn adjust_tail(&mut self, bytes: i32) -> bool {
        let length = (self.0.len() as i32 + bytes) as u32;
        // SAFETY: no frame of this packet outlives the borrow of `self`.
        unsafe { bpf_skb_change_tail(self.0.skb.skb, length, 0) == 0 }
    }

    /// The room is behind the Ethernet header, which moves: only for an outer IP header.
    #[inline(always)]
    fn adjust_head(&mut self, bytes: i32) -> bool {
        let outer = if -bytes == IPV4 as i32 {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
        } else {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
        };
        // SAFETY: as in `adjust_tail`.
        unsafe { bpf_skb_adjust_room(self.0.skb.skb, -bytes, BPF_ADJ_ROOM_MAC, outer.into()) == 0 }
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        let context = self.0.skb.skb;
        // SAFETY: a field of it. Where the packet is on its way in, its interface is the one that it came in by.
        unsafe { (*context).ifindex }
    }
}
