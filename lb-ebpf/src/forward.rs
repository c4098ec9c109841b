//! How a packet is sent to its real server.

use lb_common::{DropReason, RealServer};

use crate::{
    Choice, Verdict, encapsulate,
    frame::{Frame, Packet},
    parse::{ETHERNET, IPV4, IPV6, IpPacket},
    tables::State,
    too_big,
};

/// Forwards a packet whose flow has this hash, and counts it.
#[inline(always)]
pub fn forward(
    packet: &mut impl Packet,
    tables: &impl State,
    ip: &IpPacket,
    choice: &Choice<'_>,
    hash: u64,
) -> Verdict {
    let server = choice.real_server;
    let overhead = if !server.has_outer_header() {
        0
    } else if server.address.is_ipv4() {
        IPV4
    } else {
        IPV6
    };
    if ip.length + overhead as u32 > server.mtu {
        return too_big::answer(packet, tables, ip, server.mtu - overhead as u32);
    }
    if overhead != 0 && !encapsulate::encapsulate(packet, ip, server, hash) {
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
    header.set_mac::<0>(server.destination_mac);
    header.set_mac::<6>(server.source_mac);
    Some(())
}
