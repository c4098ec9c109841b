//! The fragments of a datagram go where its first fragment went: only that one has the ports.

use lb_common::{Datagram, DropReason, FirstFragment};

use crate::{
    Choice, Verdict, find,
    parse::{Fragment, IpPacket},
    tables::State,
};

/// Notes where a first fragment goes: to a binding (by its offset) of a virtual server (by its id).
#[inline(always)]
pub fn remember(tables: &impl State, ip: &IpPacket, virtual_server: u32, binding: u32) {
    if let Fragment::First(identification) = ip.fragment {
        let first = FirstFragment {
            seen: tables.now(),
            virtual_server,
            binding,
        };
        tables.remember_fragment(&datagram(ip, identification), &first);
    }
}

/// Notes that a first fragment to a port of a VIP without a virtual server was left to the kernel.
#[inline(always)]
pub fn remember_passed(tables: &impl State, ip: &IpPacket) {
    if let Fragment::First(_) = ip.fragment
        && find::vip(tables, ip.flow.destination).is_some()
    {
        remember(tables, ip, 0, 0);
    }
}

/// Where a later fragment goes.
#[inline(always)]
pub fn follow<'t>(
    tables: &'t impl State,
    ip: &IpPacket,
    identification: u32,
) -> Result<Choice<'t>, Verdict> {
    if find::vip(tables, ip.flow.destination).is_none() {
        return Err(Verdict::Pass);
    }
    let fresh =
        |first: &FirstFragment| tables.now().saturating_sub(first.seen) < FirstFragment::LIFETIME;
    let Some(first) = tables
        .first_fragment(&datagram(ip, identification))
        .filter(fresh)
    else {
        return Err(Verdict::Drop(DropReason::UnknownFragment));
    };
    if first.virtual_server == 0 {
        return Err(Verdict::Pass);
    }
    tables
        .virtual_server(first.virtual_server)
        .and_then(|virtual_server| {
            Choice::new(tables, first.virtual_server, virtual_server, first.binding)
        })
        .ok_or(Verdict::Drop(DropReason::NoRealServer))
}

#[inline(always)]
fn datagram(ip: &IpPacket, identification: u32) -> Datagram {
    let protocol = if ip.flow.is_ipv4() {
        ip.flow.protocol
    } else {
        0
    };
    Datagram::new(
        ip.flow.source,
        ip.flow.destination,
        identification,
        protocol,
    )
}
