//! The balancer: its entry point, and the maps behind [`Tables`](lb_ebpf::Tables). All that it does with
//! a packet is in the library.

#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{macros::xdp, programs::XdpContext};
use lb_common::TraceEvent;
use lb_ebpf::kernel::{self, XdpPacket};

use self::maps::Maps;

/// Attached to each interface of the configuration.
#[xdp(frags)]
fn balancer(context: XdpContext) -> u32 {
    kernel::action(lb_ebpf::balance(&mut XdpPacket(&context), &Maps))
}

/// Nobody traces packets here: that is what `tracing.rs` is for.
#[inline(always)]
fn note(_note: impl FnOnce(&mut TraceEvent)) {}
