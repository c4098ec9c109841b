//! What the library's traits are in the kernel.

mod maps;
mod packet;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use lb_ebpf::Verdict;

use self::{maps::Maps, packet::XdpPacket};

/// Attached to each interface of the configuration.
#[xdp]
pub fn balancer(context: XdpContext) -> u32 {
    match lb_ebpf::balance(&mut XdpPacket(&context), &Maps) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Transmit => xdp_action::XDP_TX,
        // SAFETY: a plain helper call.
        Verdict::Redirect(ifindex) => unsafe { bpf_redirect(ifindex, 0) as u32 },
        Verdict::Drop(_) => xdp_action::XDP_DROP,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
