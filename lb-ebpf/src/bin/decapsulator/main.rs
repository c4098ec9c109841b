//! The decapsulator for real servers: its entry point, and the maps behind
//! [`Host`](lb_ebpf::decapsulate::Host). All that it does with a packet is in the library.

#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use lb_common::decapsulator::Fate;
use lb_ebpf::{Packet, decapsulate::decapsulate, kernel::XdpPacket};

use self::maps::Maps;

/// Attached to an interface by which a real server gets packets from balancers.
#[xdp(frags)]
#[inline(always)]
fn decapsulator(context: XdpContext) -> u32 {
    let mut packet = XdpPacket(&context);
    let bytes = packet.len();
    let Some(fate) = decapsulate(&mut packet, &Maps) else {
        return xdp_action::XDP_PASS;
    };
    maps::count(fate, bytes);
    match fate {
        Fate::Decapsulated | Fate::Passed(_) => xdp_action::XDP_PASS,
        Fate::Congested => xdp_action::XDP_DROP,
    }
}
