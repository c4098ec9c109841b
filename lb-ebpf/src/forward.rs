//! How a packet is sent to its real server.

use lb_common::{DropReason, RealServer};

use crate::{
    Choice, Verdict, encapsulate,
    frame::{Packet, View},
    parse::{ETHERNET, IpPacket},
    tables::State,
    too_big,
};

/// Forwards a packet whose flow has this hash, and counts it; or tells the client that it is too big.
#[inline(always)]
pub fn forward(
    packet: &mut impl Packet,
    tables: &impl State,
    ip: &IpPacket,
    choice: &Choice<'_>,
    hash: u64,
) -> Verdict {
    let server = choice.real_server;
    if fits(ip, server) {
        let ingress = packet.ingress_ifindex();
        send(packet, tables, ip, choice, hash, ingress)
    } else {
        too_big::answer(packet, tables, ip, server.mtu - server.outer_header)
    }
}

/// Whether the way to a server carries a packet, with its outer header.
#[inline(always)]
pub fn fits(ip: &IpPacket, server: &RealServer) -> bool {
    ip.length + server.outer_header <= server.mtu
}

/// Forwards a packet that fits and came in by this interface.
#[inline(always)]
pub fn send(
    packet: &mut impl Packet,
    tables: &impl State,
    ip: &IpPacket,
    choice: &Choice<'_>,
    hash: u64,
    ingress: u32,
) -> Verdict {
    let server = choice.real_server;
    if server.has_outer_header() {
        match encapsulate::encapsulate(packet, ip, server, hash) {
            Some(ethernet) => readdress(ethernet, server),
            None => return Verdict::Drop(DropReason::NoHeadroom),
        }
    } else {
        match packet.frame().view() {
            Some(ethernet) => readdress(ethernet, server),
            None => return Verdict::Pass,
        }
    }
    tables.count(choice.binding.counters_index(), ip.end() as u64);
    if server.ifindex == ingress {
        Verdict::Transmit
    } else {
        Verdict::Redirect(server.ifindex)
    }
}

/// The frame goes on to the real server, or to the router in between, from us. For L2 DSR this is all.
#[inline(always)]
pub(crate) fn readdress(ethernet: View<'_, ETHERNET>, server: &RealServer) {
    let (first, rest) = server.macs();
    ethernet.set_u64::<0>(first);
    ethernet.set_u32::<8>(rest);
}
