//! What the kernel programs have in common: the library's [`Packet`](crate::Packet) over an XDP context and over a socket buffer, the
//! panic handler, the licence.

pub mod map_entry;
pub mod packet;
pub mod socket_buffer;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect};

pub use self::{packet::XdpPacket, socket_buffer::SocketBuffer};
use crate::Verdict;

/// What an XDP program returns for a verdict.
#[inline(always)]
pub fn action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Redirect(ifindex) => redirect(ifindex),
        Verdict::Drop(_) => xdp_action::XDP_DROP,
    }
}

/// Out of the interface with this index: what a program returns then.
#[inline(always)]
pub fn redirect(ifindex: u32) -> u32 {
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
