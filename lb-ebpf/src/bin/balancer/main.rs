//! The balancer: its entry point, and the maps behind [`Tables`](lb_ebpf::Tables). All that it does with
//! a packet is in the library.

#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use lb_ebpf::{Verdict, kernel::XdpPacket};

use self::maps::Maps;

/// Attached to each interface of the configuration.
#[xdp(frags)]
fn balancer(context: XdpContext) -> u32 {
    match lb_ebpf::balance(&mut XdpPacket(&context), &Maps) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Transmit => xdp_action::XDP_TX,
        // SAFETY: a plain helper call.
        Verdict::Redirect(ifindex) => unsafe { bpf_redirect(ifindex, 0) as u32 },
        Verdict::Drop(_) => xdp_action::XDP_DROP,
    }
}
