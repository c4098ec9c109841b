//! The packet logic of the balancer, and of the decapsulator for real servers.
//!
//! [`balance`] is the path of a packet through the balancer, top to bottom; each step is a file of its
//! own. [`decapsulate`](decapsulate::decapsulate) is all that the decapsulator does. All of it works on a [`Packet`]
//! and on tables that are traits, so that it compiles for the kernel (the programs in `bin` give it
//! the XDP context and BPF maps) and for the host (tests and fuzzing give it byte vectors and plain
//! tables).

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod answer;
pub mod atomic;
pub mod checksum;
pub mod decapsulate;
pub mod encapsulate;
pub mod ethernet;
pub mod find;
pub mod forward;
pub mod fragments;
pub mod frame;
#[cfg(test)]
mod interleavings;
pub mod ip_header;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod parse;
pub mod predict;
pub mod protect;
pub mod reset;
pub mod session;
pub mod session_table;
pub mod shortcut;
pub mod steer;
pub mod sticky;
pub mod tables;
pub mod too_big;
pub mod trace;

use lb_common::{Binding, DropReason, RealServer, VirtualServer};

use self::parse::{Fragment, IpPacket, Parsed};
pub use self::{
    frame::{Frame, Packet},
    tables::{State, Tables},
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

/// Why a packet that came for a VIP, or seemed to, isn't forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not ours.
    Pass,
    /// It can't be.
    Drop(DropReason),
    /// Its client should know that there is no connection.
    Reset(DropReason),
}

/// Where a packet goes.
pub struct Choice<'tables> {
    /// The virtual server.
    pub virtual_server: &'tables VirtualServer,
    /// The binding.
    pub binding: &'tables Binding,
    /// The real server.
    pub real_server: &'tables RealServer,
}

/// What becomes of a packet.
#[inline(always)]
pub fn balance(packet: &mut impl Packet, tables: &impl State) -> Verdict {
    match shortcut::take(packet, tables) {
        Some(verdict) => verdict,
        None => path(packet, tables),
    }
}

/// The path of a packet.
#[inline(always)]
pub fn path(packet: &mut impl Packet, tables: &impl State) -> Verdict {
    let ip = match parse::parse(packet.frame()) {
        Parsed::Ip(ip) => tables.forget(ip).ok_or(Verdict::Pass),
        Parsed::ArpRequest(request) => Err(answer::arp(packet, tables, request)),
        Parsed::NeighborSolicitation(solicitation) => {
            Err(answer::neighbor_solicitation(packet, tables, solicitation))
        }
        Parsed::EchoRequest(request) if packet.reaches(request.end) => {
            Err(answer::echo(packet, tables, request))
        }
        Parsed::EchoRequest(_) | Parsed::Other => Err(Verdict::Pass),
    };
    let ip = match ip {
        // Only now, so that the verifier looks once at how a quoted packet is read.
        Ok(ip) if ip.icmp_error => parse::quoted(packet.frame(), ip)
            .and_then(|ip| tables.forget(ip))
            .ok_or(Verdict::Pass),
        ip => ip,
    };
    let verdict = match ip {
        Ok(ip) if packet.reaches(ip.end()) => ip_packet(packet, tables, ip),
        // Linux, too, takes it for damaged (net/ipv4/ip_input.c, `ip_rcv_core`).
        Ok(_) => Verdict::Pass,
        Err(verdict) => verdict,
    };
    counted(tables, verdict)
}

/// Counts it if it is a drop.
#[inline(always)]
fn counted(tables: &impl State, verdict: Verdict) -> Verdict {
    if let Verdict::Drop(reason) = verdict {
        tables.count_drop(reason);
    }
    verdict
}

#[inline(always)]
fn ip_packet(packet: &mut impl Packet, tables: &impl State, ip: &IpPacket) -> Verdict {
    let hash = ip.flow.hash();
    let choice = match ip.fragment {
        Fragment::Later => fragments::follow(packet, tables, ip),
        Fragment::Whole | Fragment::First => choose(packet, tables, ip, hash),
    };
    match choice {
        Ok(choice) => {
            trace::real_server(tables, choice.real_server);
            forward::forward(packet, tables, ip, &choice, hash)
        }
        Err(Refusal::Pass) => Verdict::Pass,
        Err(Refusal::Drop(reason)) => Verdict::Drop(reason),
        Err(Refusal::Reset(reason)) => reset::answer(packet, tables, ip, reason),
    }
}

/// Where a packet with ports goes.
///
/// A frame for another station is left alone: a switch may flood a frame that is on its way to a real
/// server, and what another balancer has forwarded must not be forwarded again.
#[inline(always)]
fn choose<'t>(
    packet: &mut impl Packet,
    tables: &'t impl State,
    ip: &IpPacket,
    hash: u64,
) -> Result<Choice<'t>, Refusal> {
    let Some(virtual_server) = find::virtual_server(tables, &ip.flow) else {
        fragments::remember_passed(packet, tables, ip);
        trace::passed(packet, tables, ip);
        return Err(Refusal::Pass);
    };
    if !ethernet::is_for_us(packet, tables) {
        return Err(Refusal::Pass);
    }
    trace::packet(tables, ip);
    trace::virtual_server(tables, virtual_server);
    if protect::is_martian(&ip.flow) {
        return Err(Refusal::Drop(DropReason::MartianSource));
    }
    let binding = session::binding(tables, ip, hash, virtual_server)?;
    fragments::remember(tables, ip, virtual_server.id, binding);
    Choice::new(tables, virtual_server, binding).ok_or(Refusal::Drop(DropReason::NoRealServer))
}

impl<'tables> Choice<'tables> {
    /// The real server at an offset from the virtual server's first binding; `None` if there is none.
    #[inline(always)]
    pub fn new(
        tables: &'tables impl Tables,
        virtual_server: &'tables VirtualServer,
        binding: u32,
    ) -> Option<Self> {
        Self::at(tables, virtual_server, binding).filter(|it| it.binding.real_server != 0)
    }

    /// As [`Self::new`]; but where there is none it is entry 0 of `real_servers`, all zeros, whose MTU no packet fits.
    #[inline(always)]
    pub fn at(
        tables: &'tables impl Tables,
        virtual_server: &'tables VirtualServer,
        binding: u32,
    ) -> Option<Self> {
        let binding = tables.binding(virtual_server.first_binding + binding)?;
        Some(Self {
            virtual_server,
            binding,
            real_server: tables.real_server(&binding.real_server)?,
        })
    }
}
