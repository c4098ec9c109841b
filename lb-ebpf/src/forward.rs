//! How a packet is sent to its real server.

use lb_common::{DropReason, RealServer};

use crate::{
    Choice, Verdict, encapsulate,
    frame::{Frame, Packet},
    parse::{ETHERNET, IPV4, IPV6, IpPacket},
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
        send(packet, tables, ip, choice, hash)
    } else {
        too_big::answer(packet, tables, ip, server.mtu - outer_header(server) as u32)
    }
}

/// Whether the way to a server carries a packet, with its outer header.
#[inline(always)]
pub fn fits(ip: &IpPacket, server: &RealServer) -> bool {
    ip.length + outer_header(server) as u32 <= server.mtu
}

/// Length of the outer header of packets to a server.
#[inline(always)]
fn outer_header(server: &RealServer) -> usize {
    if !server.has_outer_header() {
        0
    } else if server.address.is_ipv4() {
        IPV4
    } else {
        IPV6
    }
}

/// Forwards a packet that fits.
#[inline(always)]
pub fn send(
    packet: &mut impl Packet,
    tables: &impl State,
    ip: &IpPacket,
    choice: &Choice<'_>,
    hash: u64,
) -> Verdict {
    let server = choice.real_server;
    if server.has_outer_header() && !encapsulate::encapsulate(packet, ip, server, hash) {
        return Verdict::Drop(DropReason::NoHeadroom);
    }
    if readdress(packet.frame(), server).is_none() {
        return Verdict::Pass;
    }
    tables.count(choice.id, choice.counters, ip.end() as u64);
    if server.ifindex == packet.ingress_ifindex() {
        Verdict::Transmit
    } else {
        Verdict::Redirect(server.ifindex)
    }
}

/// The frame goes on to the real server, or to the router in between, from us. For L2 DSR this is all.
#[inline(always)]
pub(crate) fn readdress(frame: Frame<'_>, server: &RealServer) -> Option<()> {
    let header = frame.view::<ETHERNET>()?;
    let (first, rest) = server.macs();
    header.set_u64::<0>(first);
    header.set_u32::<8>(rest);
    Some(())
}
