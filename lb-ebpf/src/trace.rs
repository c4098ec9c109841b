//! What a packet lets be noted about it on its way, for who traces packets. In the balancer that is there while nobody does
//! ([`State::trace`]) all of this is nothing.

use lb_common::{
    Address, RealServer, TraceEvent, TraceSession, TracedPacket, VirtualServer,
    address::AddressWords, protocol::UDP, session::Phase,
};

use crate::{
    Packet, ethernet, find,
    parse::{Fragment, IpPacket},
    tables::State,
};

/// A packet is for a VIP.
#[inline(always)]
pub fn packet(tables: &impl State, ip: &IpPacket) {
    tables.trace(|event| describe(event, ip));
}

/// A packet is not for a virtual server, but may be for a VIP all the same.
#[inline(always)]
pub fn passed(packet: &mut impl Packet, tables: &impl State, ip: &IpPacket) {
    tables.trace(|event| {
        if find::vip(tables, ip.flow.destination).is_some() && ethernet::is_for_us(packet, tables) {
            describe(event, ip);
        }
    });
}

#[inline(always)]
fn describe(event: &mut TraceEvent, ip: &IpPacket) {
    event.client = Address::from_words(ip.flow.source);
    event.vip = Address::from_words(ip.flow.destination);
    event.client_port = ip.flow.source_port;
    event.vip_port = ip.flow.destination_port;
    event.tcp_flags = ip.tcp_flags;
    event.packet = match ip.fragment {
        _ if ip.icmp_error => TracedPacket::IcmpError,
        Fragment::Later => TracedPacket::Fragment,
        _ if ip.flow.protocol == UDP => TracedPacket::Udp,
        _ => TracedPacket::Tcp,
    } as u8;
}

/// Somebody asks a VIP something that the balancer answers.
#[inline(always)]
pub fn question(tables: &impl State, packet: TracedPacket, asker: AddressWords, vip: AddressWords) {
    tables.trace(|event| {
        event.client = Address::from_words(asker);
        event.vip = Address::from_words(vip);
        event.packet = packet as u8;
    });
}

/// A packet is for this virtual server.
#[inline(always)]
pub fn virtual_server(tables: &impl State, virtual_server: &VirtualServer) {
    tables.trace(|event| event.virtual_server = virtual_server.name);
}

/// A packet goes to this real server, unless something is in the way. If nothing else has chosen that, the hash has.
#[inline(always)]
pub fn real_server(tables: &impl State, real_server: &RealServer) {
    tables.trace(|event| {
        event.real_address = real_server.address;
        event.real_server = real_server.name;
    });
    session_unless_known(tables, TraceSession::TableOnly);
}

/// How the real server was chosen.
#[inline(always)]
pub fn session(tables: &impl State, session: TraceSession) {
    tables.trace(|event| event.session = session as u8);
}

/// A new session goes where the client's former ones went; if it moves, that is worth more to know.
#[inline(always)]
pub fn sticky(tables: &impl State) {
    session_unless_known(tables, TraceSession::Sticky);
}

/// A session begins, if it does not move.
#[inline(always)]
pub fn new_session(tables: &impl State, phase: Phase) {
    session_unless_known(
        tables,
        match phase {
            Phase::Opening => TraceSession::New,
            _ => TraceSession::MidStream,
        },
    );
}

#[inline(always)]
fn session_unless_known(tables: &impl State, session: TraceSession) {
    tables.trace(|event| {
        if event.session == 0 {
            event.session = session as u8;
        }
    });
}
