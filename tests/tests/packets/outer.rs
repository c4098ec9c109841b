//! What L3 DSR puts in front of a packet, built by etherparse.

use std::net::IpAddr;

use etherparse::{
    EtherType, IpEcn, Ipv4Header, Ipv6FlowLabel, Ipv6Header, LaxNetSlice, LaxSlicedPacket,
    ether_type, ip_number,
};

use crate::{
    fixture::{self, Sources},
    frames::Mac,
};

/// Where the IP packet of a frame lies.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub start: usize,
    pub end: usize,
}

/// `None` if there is no IP packet in the frame.
pub fn place(frame: &[u8]) -> Option<Place> {
    const TAG: usize = 4;
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let start = 14 + packet.link_exts.len() * TAG;
    let length = match packet.net? {
        LaxNetSlice::Ipv4(ip) => ip.header().total_len().into(),
        LaxNetSlice::Ipv6(ip) => Ipv6Header::LEN + usize::from(ip.header().payload_length()),
        LaxNetSlice::Arp(_) => return None,
    };
    Some(Place {
        start,
        end: start + length,
    })
}

/// What the packet inside has to do with the header outside.
struct Inner {
    protocol: etherparse::IpNumber,
    traffic_class: u8,
    dont_fragment: bool,
    length: u16,
}

impl Inner {
    fn read(packet: &[u8], length: usize) -> Self {
        let length = length.try_into().expect("the length of a datagram");
        if packet[0] >> 4 == 4 {
            let (header, _) = Ipv4Header::from_slice(packet).expect("an IPv4 packet");
            Self {
                protocol: ip_number::IPV4,
                traffic_class: header.dscp.value() << 2 | header.ecn.value(),
                dont_fragment: header.dont_fragment,
                length,
            }
        } else {
            let (header, _) = Ipv6Header::from_slice(packet).expect("an IPv6 packet");
            Self {
                protocol: ip_number::IPV6,
                traffic_class: header.traffic_class,
                // RFC 4213 section 3.2.2.
                dont_fragment: true,
                length,
            }
        }
    }
}

/// The frame that `input` becomes on its way to a server's address, by L3 DSR between two MAC addresses (the next
/// hop's and ours). What the program may choose is as it was `seen`: the identification, the flow label, and the
/// source address within the configured prefix.
pub fn encapsulated(input: &[u8], macs: [Mac; 2], server: IpAddr, seen: &[u8]) -> Vec<u8> {
    let Place { start, end } = place(input).expect("an IP packet in a frame");
    let inner = Inner::read(&input[start..], end - start);
    let seen = seen.get(start..).unwrap_or_default();
    let (ether_type, header) = match server {
        IpAddr::V4(server) => (ether_type::IPV4, in_ipv4(&inner, server.octets(), seen)),
        IpAddr::V6(server) => (ether_type::IPV6, in_ipv6(&inner, server.octets(), seen)),
    };
    let EtherType(ether_type) = ether_type;
    let [next_hop, ours] = macs;
    [
        &next_hop,
        &ours,
        &input[12..start - 2],
        &ether_type.to_be_bytes(),
        &header,
        &input[start..],
    ]
    .concat()
}

fn in_ipv4(inner: &Inner, destination: [u8; 4], seen: &[u8]) -> Vec<u8> {
    let (seen, _) = Ipv4Header::from_slice(seen).unwrap_or_default();
    let mut header = Ipv4Header {
        dscp: (inner.traffic_class >> 2).try_into().expect("6 bits"),
        ecn: IpEcn::try_new(inner.traffic_class & 3).expect("2 bits"),
        total_len: 20 + inner.length,
        identification: seen.identification,
        dont_fragment: inner.dont_fragment,
        time_to_live: 64,
        protocol: inner.protocol,
        source: match source(seen.source.into(), destination.into()) {
            IpAddr::V4(source) => source.octets(),
            IpAddr::V6(_) => unreachable!("a source of the destination's family"),
        },
        destination,
        ..Ipv4Header::default()
    };
    header.header_checksum = header.calc_header_checksum();
    header.to_bytes().to_vec()
}

fn in_ipv6(inner: &Inner, destination: [u8; 16], seen: &[u8]) -> Vec<u8> {
    let (seen, _) = Ipv6Header::from_slice(seen).unwrap_or_default();
    let header = Ipv6Header {
        traffic_class: inner.traffic_class,
        flow_label: Ipv6FlowLabel::try_new(seen.flow_label.value()).expect("20 bits"),
        payload_length: inner.length,
        next_header: inner.protocol,
        hop_limit: 64,
        source: match source(seen.source.into(), destination.into()) {
            IpAddr::V6(source) => source.octets(),
            IpAddr::V4(_) => unreachable!("a source of the destination's family"),
        },
        destination,
    };
    header.to_bytes().to_vec()
}

/// The source that was seen, if it is one that may be.
fn source(seen: IpAddr, destination: IpAddr) -> IpAddr {
    let sources = fixture::sources(Sources::Spread, destination);
    if sources.contains(&seen) {
        seen
    } else {
        sources.addr()
    }
}

/// The MAC addresses and the destination in front of a packet, if it was put behind an outer header.
pub fn destination(input: &[u8], output: &[u8]) -> Option<([Mac; 2], IpAddr)> {
    if output.len() <= input.len() {
        return None;
    }
    let packet = LaxSlicedPacket::from_ethernet(output).ok()?;
    let address = match packet.net? {
        LaxNetSlice::Ipv4(ip) => ip.header().destination_addr().into(),
        LaxNetSlice::Ipv6(ip) => ip.header().destination_addr().into(),
        LaxNetSlice::Arp(_) => return None,
    };
    let mac = |start: usize| output[start..start + 6].try_into().expect("six bytes");
    Some(([mac(0), mac(6)], address))
}
