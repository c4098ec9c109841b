//! The shortcut that most packets take: plain ones of flows that have no session, or whose session needs nothing but to be
//! followed, or begins at a place that the hash alone tells.
//!
//! It does nothing that the whole path would not do with such a packet ([`crate::path`]), by the same functions; but here
//! the compiler knows what the packet doesn't have, and leaves out what is for others. Whatever else there may be
//! to do is left to the whole path, which begins anew: up to then at most the session was renewed, as the whole path would
//! do; or one was taken from the budget of new sessions, and another CPU was faster to record the flow or to take the place.

use lb_common::{Control, VirtualServer};

use crate::{
    Choice, Verdict, counted, ethernet, find, forward,
    frame::{self, Packet},
    parse::{
        self, IpPacket,
        tcp_flag::{FIN, RST, SYN},
    },
    protect,
    session::{self, Beginning},
    session_table::Found,
    tables::State,
};

/// What becomes of a packet; `None` if the whole path must tell.
#[inline(always)]
pub fn take(packet: &mut impl Packet, tables: &impl State) -> Option<Verdict> {
    // First of all: what is known of the packet would have to be put aside for the lookup.
    let control = tables.control()?;
    let verdict = if let Some(ip) = parse::plain_ipv4(packet.frame()) {
        follow(packet, tables, control, &ip)
    } else {
        let ip = parse::plain_ipv6(packet.frame())?;
        follow(packet, tables, control, &ip)
    };
    Some(counted(tables, verdict?))
}

/// What tells where a packet goes.
enum Way<'tables> {
    /// The predictor table: to this binding.
    Table(u32),
    /// The session.
    Session(Found<'tables>),
    /// The session that begins now.
    New(Beginning<'tables>),
}

#[inline(always)]
fn follow(
    packet: &mut impl Packet,
    tables: &impl State,
    control: &Control,
    ip: &IpPacket,
) -> Option<Verdict> {
    let directory = control.directory.load();
    let Some(virtual_server) = find::by_exact_port(tables, directory, &ip.flow) else {
        // What was computed to find the virtual server is computed anew, so that packets that have one need not keep it.
        let destination = ip.flow.destination.map(frame::opaque);
        let directory = control.directory.load();
        let vip = find::vip_in(tables, directory, destination);
        return vip.is_none().then_some(Verdict::Pass);
    };
    let hash = ip.flow.hash();
    let plain = Plain {
        tables,
        control,
        ip,
        hash,
        virtual_server,
    };
    // The session first: it is what is not in the caches.
    if let Some(binding) = session::by_table_alone(tables, &ip.flow, hash, virtual_server) {
        return plain.forward(packet, &Way::Table(binding?));
    }
    if ip.tcp_flags & SYN == 0 {
        if ip.tcp_flags & (FIN | RST) != 0 {
            return None;
        }
        if let Some(session) = session::peek(tables, control, ip, virtual_server.id) {
            return plain.forward(packet, &Way::Session(session));
        }
    }
    let beginning = session::beginning(tables, control, ip, hash, virtual_server)?;
    plain.forward(packet, &Way::New(beginning))
}

/// A plain packet for a virtual server.
struct Plain<'tables, T> {
    tables: &'tables T,
    control: &'tables Control,
    ip: &'tables IpPacket,
    hash: u64,
    virtual_server: &'tables VirtualServer,
}

impl<T: State> Plain<'_, T> {
    /// The rest of the path. It is compiled for each way, because none has to remember then which one it is.
    #[inline(always)]
    fn forward(&self, packet: &mut impl Packet, way: &Way<'_>) -> Option<Verdict> {
        let Self {
            tables,
            control,
            ip,
            hash,
            virtual_server,
        } = *self;
        let binding = match way {
            Way::Table(binding) | Way::New(Beginning { binding, .. }) => *binding,
            Way::Session(session) => session.state.binding(),
        };
        let choice = Choice::at(tables, virtual_server, binding)?;
        let ingress = packet.ingress_ifindex();
        if !ethernet::is_for_us_to(packet, tables, choice.real_server, ingress)
            || protect::is_martian(&ip.flow)
            || choice.binding.is_down()
            || !forward::fits(ip, choice.real_server)
        {
            return None;
        }
        match way {
            Way::Table(_) => {}
            Way::Session(session) => session::follow(tables, control, session, virtual_server)?,
            Way::New(beginning) => session::begin(tables, control, ip, &choice, beginning)?,
        }
        Some(forward::send(packet, tables, ip, &choice, hash, ingress))
    }
}
