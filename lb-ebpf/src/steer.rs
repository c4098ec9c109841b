//! Health checks take the way of a client's packets: to the VIP, by a real server's own L2 or L3 DSR path.
//!
//! The checks are sent in a network namespace that has nothing else in it. A packet leaves it by a pair of veth devices, with
//! a mark that says by which path ([`label`]); outside, it is made into what the balancer would have made of
//! it ([`steer`]). Answers come to the host as those to a client do, and [`is_answer`] tells them from the host's own traffic.

use core::ops::RangeInclusive;

use lb_common::{RealServer, address::AddressWords, health, real_server::MOST_MTU};

use crate::{
    encapsulate, forward,
    frame::{Frame, Packet},
    parse::{self, ETHERNET, Flow, Parsed},
};

/// What must be known of the host, and of the checks.
pub trait Checks {
    /// Whether checks are sent to this VIP.
    fn are_sent_to(&self, vip: AddressWords) -> bool;
    /// The identifier of the echo requests among them, in host byte order.
    fn echo_identifier(&self) -> u16;
    /// Whether a socket of the host itself is connected in this flow, which is that of the packets that come in.
    fn host_is_connected(&self, flow: &Flow) -> bool;
}

/// Puts the index of its path into a frame, as its destination.
#[inline(always)]
pub fn label(frame: Frame<'_>, path: u32) -> Option<()> {
    let [a, b] = health::PATH_MAC;
    let [c, d, e, f] = path.to_be_bytes();
    frame.view::<ETHERNET>()?.set_mac::<0>([a, b, c, d, e, f]);
    Some(())
}

/// The index that [`label`] put there.
#[inline(always)]
pub fn path(frame: Frame<'_>) -> Option<u32> {
    Some(u32::from_be(frame.view::<ETHERNET>()?.u32::<2>()))
}

/// Makes a frame what the balancer makes of those to this real server. `None`: it can't be sent.
#[inline(always)]
pub fn steer(packet: &mut impl Packet, server: &RealServer) -> Option<()> {
    let ethernet = if server.has_outer_header() {
        // It may be larger than the way's MTU: segments of TCP are cut behind this. But a header must be able to say it.
        let ip = parse::ip_packet(packet.frame())
            .filter(|ip| ip.length + server.outer_header <= MOST_MTU)?;
        encapsulate::encapsulate(packet, &ip, server, ip.flow.hash())?
    } else {
        packet.frame().view()?
    };
    forward::readdress(ethernet, server);
    Some(())
}

/// Whether a frame answers a check: a packet from a VIP, or an ICMP error about one to it.
#[inline(always)]
pub fn is_answer(frame: Frame<'_>, checks: &impl Checks) -> bool {
    const PORTS: RangeInclusive<u16> = health::PORTS;

    let ip = match parse::parse(frame) {
        Parsed::Ip(ip) if ip.icmp_error => parse::quoted(frame, &ip),
        Parsed::Ip(ip) => Some(ip),
        _ => None,
    };
    match ip {
        Some(ip) => {
            PORTS.contains(&ip.flow.destination_port)
                && checks.are_sent_to(ip.flow.source)
                && !checks.host_is_connected(&ip.flow)
        }
        None => parse::echo_reply(frame).is_some_and(|(source, identifier)| {
            identifier == checks.echo_identifier() && checks.are_sent_to(source)
        }),
    }
}
