//! The fragments of a datagram go where its first fragment went: only that one has the ports.

use lb_common::{Datagram, DropReason, FirstFragment, TraceSession};

use crate::{
    Choice, Refusal, ethernet, find,
    frame::Packet,
    parse::{Fragment, IpPacket},
    tables::State,
    trace,
};

/// Notes where a first fragment goes: to a binding (by its offset) of a virtual server (by its id).
#[inline(always)]
pub fn remember(tables: &impl State, ip: &IpPacket, virtual_server: u32, binding: u32) {
    if ip.fragment == Fragment::First {
        let first = FirstFragment {
            seen: tables.now(),
            virtual_server,
            binding,
        };
        tables.remember_fragment(&datagram(ip), &first);
    }
}

/// Notes that a first fragment to a port of a VIP without a virtual server was left to the kernel.
#[inline(always)]
pub fn remember_passed(packet: &mut impl Packet, tables: &impl State, ip: &IpPacket) {
    if ip.fragment == Fragment::First
        && find::vip(tables, ip.flow.destination).is_some()
        && ethernet::is_for_us(packet, tables)
    {
        remember(tables, ip, 0, 0);
    }
}

/// Where a later fragment goes.
#[inline(always)]
pub fn follow<'t>(
    packet: &mut impl Packet,
    tables: &'t impl State,
    ip: &IpPacket,
) -> Result<Choice<'t>, Refusal> {
    let is_ours = find::vip(tables, ip.flow.destination).is_some();
    if !is_ours || !ethernet::is_for_us(packet, tables) {
        return Err(Refusal::Pass);
    }
    trace::packet(tables, ip);
    let fresh =
        |first: &FirstFragment| tables.now().saturating_sub(first.seen) < FirstFragment::LIFETIME;
    let Some(first) = tables.first_fragment(&datagram(ip)).filter(fresh) else {
        return Err(Refusal::Drop(DropReason::UnknownFragment));
    };
    if first.virtual_server == 0 {
        return Err(Refusal::Pass);
    }
    tables
        .virtual_server(&first.virtual_server)
        // It may be gone meanwhile.
        .filter(|virtual_server| virtual_server.protocol != 0)
        .inspect(|virtual_server| {
            trace::virtual_server(tables, virtual_server);
            trace::session(tables, TraceSession::FirstFragment);
        })
        .and_then(|virtual_server| Choice::new(tables, virtual_server, first.binding))
        .ok_or(Refusal::Drop(DropReason::NoRealServer))
}

#[inline(always)]
fn datagram(ip: &IpPacket) -> Datagram {
    let protocol = if ip.flow.is_ipv4() {
        ip.flow.protocol
    } else {
        0
    };
    Datagram::new(
        ip.flow.source,
        ip.flow.destination,
        ip.identification,
        protocol,
    )
}
