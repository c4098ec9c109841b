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
pub mod checksum;
pub mod decapsulate;
pub mod encapsulate;
pub mod ethernet;
pub mod find;
pub mod forward;
pub mod fragments;
pub mod frame;
pub mod ip_header;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod parse;
pub mod predict;
pub mod protect;
pub mod tables;
pub mod too_big;

use lb_common::{DropReason, RealServer, VirtualServer};

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

/// Where a packet goes.
pub struct Choice<'tables> {
    /// The virtual server's id.
    pub id: u32,
    /// The virtual server.
    pub virtual_server: &'tables VirtualServer,
    /// Index in `binding_counters`.
    pub counters: u32,
    /// The real server.
    pub real_server: &'tables RealServer,
}

/// The path of a packet.
#[inline(always)]
pub fn balance(packet: &mut impl Packet, tables: &impl State) -> Verdict {
    let ip = match parse::parse(packet.frame()) {
        Parsed::Ip(ip) => Ok(ip),
        Parsed::UnusualIp(ip) => tables.forget(ip).ok_or(Verdict::Pass),
        Parsed::ArpRequest(request) => Err(answer::arp(packet, tables, request)),
        Parsed::NeighborSolicitation(solicitation) => {
            Err(answer::neighbor_solicitation(packet, tables, solicitation))
        }
        Parsed::EchoRequest(request) if packet.reaches(request.end) => {
            Err(answer::echo(packet, tables, request))
        }
        Parsed::EchoRequest(_) | Parsed::Other => Err(Verdict::Pass),
    };
    let verdict = match ip {
        Ok(ip) if packet.reaches(ip.end()) => ip_packet(packet, tables, &ip),
        // Linux, too, takes it for damaged (net/ipv4/ip_input.c, `ip_rcv_core`).
        Ok(_) => Verdict::Pass,
        Err(verdict) => verdict,
    };
    if let Verdict::Drop(reason) = verdict {
        tables.count_drop(reason);
    }
    verdict
}

#[inline(always)]
fn ip_packet(packet: &mut impl Packet, tables: &impl State, ip: &IpPacket) -> Verdict {
    let hash = ip.flow.hash();
    let choice = match ip.fragment {
        Fragment::Later(identification) => fragments::follow(tables, ip, identification),
        Fragment::Whole | Fragment::First(_) => choose(tables, ip, hash),
    };
    match choice {
        Ok(choice) => forward::forward(packet, tables, ip, &choice, hash),
        Err(Verdict::Drop(_)) if !ethernet::is_for_us(packet, tables) => Verdict::Pass,
        Err(verdict) => verdict,
    }
}

/// Where a packet with ports goes.
#[inline(always)]
fn choose<'t>(tables: &'t impl State, ip: &IpPacket, hash: u64) -> Result<Choice<'t>, Verdict> {
    let Some((id, virtual_server)) = find::virtual_server(tables, &ip.flow) else {
        fragments::remember_passed(tables, ip);
        return Err(Verdict::Pass);
    };
    if protect::is_martian(&ip.flow) {
        return Err(Verdict::Drop(DropReason::MartianSource));
    }
    let none_is_up = Verdict::Drop(DropReason::NoRealServer);
    let binding = predict::binding(tables, virtual_server, hash).ok_or(none_is_up)?;
    fragments::remember(tables, ip, id, binding);
    Choice::new(tables, id, virtual_server, binding).ok_or(none_is_up)
}

impl<'tables> Choice<'tables> {
    /// The real server at an offset from the virtual server's first binding; `None` if there is none.
    #[inline(always)]
    pub fn new(
        tables: &'tables impl Tables,
        id: u32,
        virtual_server: &'tables VirtualServer,
        binding: u32,
    ) -> Option<Self> {
        let binding = tables.binding(virtual_server.first_binding + binding)?;
        if binding.real_server == 0 {
            return None;
        }
        Some(Self {
            id,
            virtual_server,
            counters: binding.counters,
            real_server: tables.real_server(binding.real_server)?,
        })
    }
}
