//! The balancer while somebody traces packets: it does with a packet what the other one does, by the same code and with the
//! same maps, and tells what it did.

#![no_std]
#![no_main]

mod maps;
mod trace;

use aya_ebpf::{macros::xdp, programs::XdpContext};
use lb_ebpf::kernel::{self, XdpPacket};

use self::{maps::Maps, trace::note};

/// Takes the other one's place on each interface.
#[xdp(frags)]
#[inline(always)]
fn balancer(context: XdpContext) -> u32 {
    trace::trace_begin(context.ctx);
    let action = kernel::action(lb_ebpf::path(&mut XdpPacket(&context), &Maps));
    trace::trace_end(action);
    action
}
