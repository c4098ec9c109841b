//! The steering of health checks.

use std::{net::IpAddr, ops::Range};

use bytemuck::Zeroable;
use etherparse::{
    Ipv4Header, Ipv6Header, NetSlice, SlicedPacket, TransportSlice, ether_type, ip_number,
};
use lb_common::{
    Address, RealServer,
    address::AddressWords,
    health::PORTS,
    real_server::{OUTER_V4, OUTER_V6},
};
use lb_ebpf::{
    Packet,
    parse::Flow,
    steer::{self, Checks},
};

use crate::{
    check::mentions_a_vip,
    memory::Buffer,
    network::{SERVERS, Server, VIPS},
};

const ETHERNET: usize = 14;
const DESTINATION: Range<usize> = 0..6;

/// The identifier of echo requests of checks.
pub const ECHO_IDENTIFIER: u16 = 0x1234;

/// What holds for any frame, and any path that its mark may say.
///
/// # Panics
/// It doesn't.
pub fn check(path: u32, frame: &[u8]) {
    label(path, frame);
    for server in &SERVERS {
        by_l2dsr(server, frame);
        by_l3dsr(server, frame);
    }
    answer(frame);
}

/// A frame carries the index of its path, and is as it was but for its destination.
fn label(path: u32, frame: &[u8]) {
    let mut packet = Buffer::new(frame, 0, 0);
    let labelled = steer::label(packet.frame(), path);
    let read = steer::path(packet.frame());
    let output = packet.into_bytes();
    if frame.len() < ETHERNET {
        assert_eq!((labelled, read), (None, None));
        assert_eq!(output, frame, "it was touched");
    } else {
        assert_eq!((labelled, read), (Some(()), Some(path)));
        assert_eq!(output[DESTINATION.end..], frame[DESTINATION.end..]);
    }
}

/// The frame as it goes on to a server, if it does.
fn steered(server: &Server, outer_source: Option<IpAddr>, frame: &[u8]) -> Option<Vec<u8>> {
    let address: IpAddr = server.address.parse().expect("an address");
    let server = RealServer {
        destination_mac: server.mac,
        source_mac: server.port.mac,
        ifindex: server.port.ifindex,
        address: address.into(),
        outer_source: outer_source.map_or(Address::zeroed(), Address::from),
        outer_header: match outer_source {
            None => 0,
            Some(IpAddr::V4(_)) => OUTER_V4,
            Some(IpAddr::V6(_)) => OUTER_V6,
        },
        mtu: server.mtu,
        ..RealServer::zeroed()
    };
    let mut packet = Buffer::new(frame, Buffer::HEADROOM, 0);
    steer::steer(&mut packet, &server)?;
    let output = packet.into_bytes();
    let macs = [server.destination_mac, server.source_mac].concat();
    assert_eq!(output[..macs.len()], macs, "MAC addresses");
    Some(output)
}

fn by_l2dsr(server: &Server, frame: &[u8]) {
    let output = steered(server, None, frame);
    assert_eq!(output.is_some(), frame.len() >= ETHERNET);
    if let Some(output) = output {
        assert_eq!(output[12..], frame[12..], "more than MACs changed");
    }
}

/// All behind the Ethernet header is inside of the outer one.
fn by_l3dsr(server: &Server, frame: &[u8]) {
    let address: IpAddr = server.address.parse().expect("an address");
    let own = if address.is_ipv4() {
        "10.9.0.1"
    } else {
        "2001:db8:9::1"
    };
    let own = own.parse().expect("an address");
    let Some(output) = steered(server, Some(own), frame) else {
        return;
    };
    let (ether_type, outer) = output[12..].split_at(2);
    let (ends, protocol, inside): ([IpAddr; 2], _, _) = if address.is_ipv4() {
        assert_eq!(ether_type, ether_type::IPV4.0.to_be_bytes());
        let (header, inside) = Ipv4Header::from_slice(outer).expect("an outer header");
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        let ends = [header.source, header.destination].map(IpAddr::from);
        (ends, header.protocol, inside)
    } else {
        assert_eq!(ether_type, ether_type::IPV6.0.to_be_bytes());
        let (header, inside) = Ipv6Header::from_slice(outer).expect("an outer header");
        let ends = [header.source, header.destination].map(IpAddr::from);
        (ends, header.next_header, inside)
    };
    assert_eq!(ends, [own, address]);
    assert_eq!(inside, &frame[ETHERNET..], "what is inside");
    let is_ipv4 = frame[12..ETHERNET] == ether_type::IPV4.0.to_be_bytes();
    let carried = if is_ipv4 {
        ip_number::IPV4
    } else {
        ip_number::IPV6
    };
    assert_eq!(protocol, carried);
}

/// A host that is connected in all flows or in none.
struct Host {
    is_connected: bool,
}

impl Checks for Host {
    fn are_sent_to(&self, vip: AddressWords) -> bool {
        is_vip(Address::from_words(vip).into())
    }

    fn echo_identifier(&self) -> u16 {
        ECHO_IDENTIFIER
    }

    fn host_is_connected(&self, _flow: &Flow) -> bool {
        self.is_connected
    }
}

fn is_vip(address: IpAddr) -> bool {
    let mut vips = VIPS.as_flattened().iter();
    vips.any(|vip| vip.parse() == Ok(address))
}

/// Nothing is taken for an answer that comes from no VIP, or is no business of the checks; no frame is touched.
fn answer(frame: &[u8]) {
    const ECHO_REPLY: u8 = 0;
    const ECHO_REPLY_V6: u8 = 129;

    let [alone, connected] = [false, true].map(|is_connected| {
        let mut packet = Buffer::new(frame, 0, 0);
        let is_answer = steer::is_answer(packet.frame(), &Host { is_connected });
        assert_eq!(packet.into_bytes(), frame, "it was touched");
        is_answer
    });
    assert!(alone || !connected, "connections made it an answer");
    if !alone {
        return;
    }
    assert!(mentions_a_vip(frame), "it mentions no VIP");
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return;
    };
    let source: IpAddr = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => ip.header().source_addr().into(),
        Some(NetSlice::Ipv6(ip)) => ip.header().source_addr().into(),
        _ => panic!("it is no IP packet"),
    };
    let (message, reply) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            return segment(source, tcp.destination_port(), connected);
        }
        Some(TransportSlice::Udp(udp)) => {
            return segment(source, udp.destination_port(), connected);
        }
        Some(TransportSlice::Icmpv4(icmp)) => (icmp.slice(), ECHO_REPLY),
        Some(TransportSlice::Icmpv6(icmp)) => (icmp.slice(), ECHO_REPLY_V6),
        _ => return,
    };
    // Nobody is connected in a ping. All else is an error, about a flow.
    assert_eq!(connected, message[0] == reply);
    if connected {
        assert!(is_vip(source), "a ping of {source}");
        assert_eq!(message[4..6], ECHO_IDENTIFIER.to_be_bytes());
    }
}

/// What holds for a segment or datagram that is taken for an answer.
fn segment(source: IpAddr, port: u16, connected: bool) {
    assert!(
        is_vip(source) && PORTS.contains(&port),
        "{source} to {port}"
    );
    assert!(!connected, "it belongs to the host's own connection");
}
