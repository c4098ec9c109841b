//! Reads the kernel's clock and its count of timer ticks at the same time, for `lb` to make [`lb_common::Clock`] of.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::xdp,
    programs::XdpContext,
};
use lb_ebpf::{Packet, kernel::XdpPacket};

/// Puts nanoseconds of the monotonic clock and the count of ticks at the beginning of the packet. Run by `lb`, never
/// attached.
#[xdp]
#[inline(always)]
fn clock(context: XdpContext) -> u32 {
    if let Some(view) = XdpPacket(&context).frame().view::<16>() {
        // SAFETY: plain helper calls.
        let (now, jiffies) = unsafe { (bpf_ktime_get_coarse_ns(), bpf_jiffies64()) };
        view.set_u64::<0>(now);
        view.set_u64::<8>(jiffies);
    }
    xdp_action::XDP_PASS
}
