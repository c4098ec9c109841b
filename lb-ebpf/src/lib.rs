//! The packet logic of the balancer, and of the decapsulator for real servers.
//!
//! [`balance`] is the path of a packet through the balancer, top to bottom; each step is a file of its
//! own. [`decapsulate`](decapsulate::decapsulate) is all that the decapsulator does. All of it works on a [`Packet`]
//! and on tables that are traits, so that it compiles for the kernel (the programs in `bin` give it
//! the XDP context and BPF maps) and for the host (tests and fuzzing give it byte vectors and plain
//! tables).

#![no_std]

pub mod answer;
pub mod checksum;
pub mod decapsulate;
pub mod find;
pub mod forward;
pub mod frame;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod parse;
pub mod predict;
pub mod tables;

use lb_common::DropReason;

use self::{forward::Egress, parse::Parsed};
pub use self::{
    frame::{Frame, Packet},
    tables::Tables,
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: the kernel gets it, untouched.
    Pass,
    /// Out of the interface that it came in by.
    Transmit,
    /// Out of the interface with this index.
    Redirect(u32),
    /// Dropped, for a reason that is counted.
    Drop(DropReason),
}

/// The path of a packet.
#[inline(always)]
pub fn balance(packet: &mut impl Packet, tables: &impl Tables) -> Verdict {
    let flow = match parse::parse(packet.frame()) {
        Parsed::Flow(flow) => flow,
        Parsed::ArpRequest(request) => return answer::arp(packet, tables, request),
        Parsed::NeighborSolicitation(solicitation) => {
            return answer::neighbor_solicitation(packet, tables, solicitation);
        }
        Parsed::Other => return Verdict::Pass,
    };
    let Some((id, virtual_server)) = find::virtual_server(tables, &flow) else {
        return Verdict::Pass;
    };
    let Some((binding, real_server)) = predict::real_server(tables, virtual_server, &flow) else {
        return Verdict::Drop(DropReason::NoRealServer);
    };
    let bytes = packet.frame().len();
    let ingress = packet.ingress_ifindex();
    let Some(egress) = forward::l2dsr(packet.frame(), ingress, real_server) else {
        return Verdict::Pass;
    };
    tables.count(id, binding.counters, bytes);
    match egress {
        Egress::Same => Verdict::Transmit,
        Egress::Other(ifindex) => Verdict::Redirect(ifindex),
    }
}
