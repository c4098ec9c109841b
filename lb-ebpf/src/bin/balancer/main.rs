//! The balancer: its entry points, and the maps behind [`Tables`](lb_ebpf::Tables). All that it does with
//! a packet is in the library.
//!
//! Two programs: what the shortcut leaves over goes on in another one, by a tail call. A function would share the stack with
//! its caller, and each return from one costs some nanoseconds where the kernel guards it against speculation.

#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::ProgramArray,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::TraceEvent;
use lb_ebpf::{
    kernel::{self, XdpPacket},
    shortcut,
};

use self::maps::Maps;

/// The program that the entry point goes on with, `whole_path`. The daemon puts it there.
#[btf_map(name = "programs")]
static PROGRAMS: ProgramArray<1> = ProgramArray::new();

/// Attached to each interface.
#[xdp(frags)]
#[inline(always)]
fn balancer(context: XdpContext) -> u32 {
    if let Some(verdict) = shortcut::take(&mut XdpPacket(&context), &Maps) {
        return kernel::action(verdict);
    }
    // SAFETY: nothing here waits to be dropped.
    unsafe { PROGRAMS.tail_call(&context, 0) };
    // There is no other program: somebody took it out of the map. The kernel tells (tracepoint xdp:xdp_exception).
    xdp_action::XDP_ABORTED
}

/// All packets but those that took the shortcut.
#[xdp(frags)]
#[inline(always)]
fn whole_path(context: XdpContext) -> u32 {
    kernel::action(lb_ebpf::path(&mut XdpPacket(&context), &Maps))
}

/// Nobody traces packets here: that is what `tracing.rs` is for.
#[inline(always)]
fn note(_note: impl FnOnce(&mut TraceEvent)) {}
