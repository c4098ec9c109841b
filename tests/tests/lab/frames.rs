//! Frames built and taken apart by etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, Icmpv6Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Header,
    Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, LinkSlice, NetSlice, PacketBuilder,
    SlicedPacket, TransportSlice, icmpv6::NeighborAdvertisementHeader,
};

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];

/// An ARP request.
pub fn arp_request(ethernet: [Mac; 2], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let [source, destination] = ethernet;
    let request = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: source,
        sender_ipv4: sender.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    };
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(source, destination).arp(request.to_arp_packet());
    builder.write(&mut frame).unwrap();
    frame
}

/// The ARP reply in a frame, with the frame's source and destination, if it is one.
pub fn arp_reply(frame: &[u8]) -> Option<([Mac; 2], ArpEthIpv4Packet)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Arp(arp)) = &packet.net else {
        return None;
    };
    let arp = arp.to_packet().try_eth_ipv4().ok()?;
    (arp.operation == ArpOperation::REPLY).then(|| (macs(&packet), arp))
}

/// A neighbour solicitation with its source link-layer address, or without for duplicate address
/// detection, which comes from `::` (RFC 4861 section 4.3).
pub fn solicitation(
    ethernet: [Mac; 2],
    [source, destination]: [Ipv6Addr; 2],
    hop_limit: u8,
    target: Ipv6Addr,
) -> Vec<u8> {
    let mut payload = target.octets().to_vec();
    if !source.is_unspecified() {
        payload.extend([&[1, 1][..], &ethernet[0]].concat());
    }
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ethernet[0], ethernet[1])
        .ipv6(source.octets(), destination.octets(), hop_limit)
        .icmpv6(Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &payload)
        .unwrap();
    frame
}

/// An answer that nobody asked for: a MAC address is where an IP address is (an ARP reply; a neighbour advertisement that
/// overrides what was known before).
pub fn claim(ethernet: [Mac; 2], mac: Mac, address: IpAddr) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const OVERRIDE: [u8; 4] = [0x20, 0, 0, 0];
    const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(ethernet[0], ethernet[1]);
    match address {
        IpAddr::V4(address) => {
            let reply = ArpEthIpv4Packet {
                operation: ArpOperation::REPLY,
                sender_mac: mac,
                sender_ipv4: address.octets(),
                target_mac: mac,
                target_ipv4: address.octets(),
            };
            builder.arp(reply.to_arp_packet()).write(&mut frame)
        }
        IpAddr::V6(address) => {
            let message = [&address.octets()[..], &TARGET_LINK_LAYER_ADDRESS, &mac].concat();
            builder
                .ipv6(address.octets(), ALL_NODES.octets(), 255)
                .icmpv6_raw(NEIGHBOR_ADVERTISEMENT, 0, OVERRIDE)
                .write(&mut frame, &message)
        }
    }
    .unwrap();
    frame
}

/// A neighbour advertisement.
#[derive(Debug, PartialEq, Eq)]
pub struct Advertisement {
    pub ethernet: [Mac; 2],
    pub addresses: [Ipv6Addr; 2],
    pub hop_limit: u8,
    pub flags: NeighborAdvertisementHeader,
    pub target: Ipv6Addr,
    pub options: Vec<u8>,
}

/// The neighbour advertisement in a frame, if it is one. Panics if its checksum is wrong.
pub fn advertisement(frame: &[u8]) -> Option<Advertisement> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) =
        (&packet.net, &packet.transport)
    else {
        return None;
    };
    let Icmpv6Type::NeighborAdvertisement(flags) = icmp.icmp_type() else {
        return None;
    };
    let header = ip.header();
    assert!(
        icmp.is_checksum_valid(header.source(), header.destination()),
        "bad checksum: {frame:02x?}"
    );
    let (target, options) = icmp.payload().split_first_chunk::<16>()?;
    Some(Advertisement {
        ethernet: macs(&packet),
        addresses: [header.source_addr(), header.destination_addr()],
        hop_limit: header.hop_limit(),
        flags,
        target: Ipv6Addr::from(*target),
        options: options.to_vec(),
    })
}

/// A UDP datagram from one address to another, without an Ethernet header.
pub fn datagram([source, destination]: [SocketAddr; 2], payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ip(ip_header([source.ip(), destination.ip()]))
        .udp(source.port(), destination.port())
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// Whether a frame has an IP packet to this address.
pub fn is_to(frame: &[u8], address: IpAddr) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).ok();
    let destination: IpAddr = match packet.and_then(|packet| packet.net) {
        Some(NetSlice::Ipv4(ip)) => ip.header().destination_addr().into(),
        Some(NetSlice::Ipv6(ip)) => ip.header().destination_addr().into(),
        _ => return false,
    };
    destination == address
}

/// The payload of the UDP datagram in a frame, if it holds a whole one.
pub fn udp_payload(frame: &[u8]) -> Option<Vec<u8>> {
    match SlicedPacket::from_ethernet(frame).ok()?.transport? {
        TransportSlice::Udp(datagram) => Some(datagram.payload().to_vec()),
        _ => None,
    }
}

/// An IP header, without what depends on what follows.
pub fn ip_header(ends: [IpAddr; 2]) -> IpHeaders {
    const TTL: u8 = 61;
    match ends {
        [IpAddr::V4(source), IpAddr::V4(destination)] => {
            let (source, destination) = (source.octets(), destination.octets());
            let header = Ipv4Header::new(0, TTL, IpNumber::UDP, source, destination);
            IpHeaders::Ipv4(header.unwrap(), Default::default())
        }
        [IpAddr::V6(source), IpAddr::V6(destination)] => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: IpNumber::UDP,
                hop_limit: TTL,
                source: source.octets(),
                destination: destination.octets(),
            };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => panic!("addresses of two families: {ends:?}"),
    }
}

/// An IP packet in pieces of at most `mtu` bytes, in order.
pub fn fragments(packet: &[u8], identification: u16, mtu: usize) -> Vec<Vec<u8>> {
    let (headers, payload) = IpHeaders::from_slice(packet).unwrap();
    let overhead = match &headers {
        IpHeaders::Ipv4(..) => Ipv4Header::MIN_LEN,
        IpHeaders::Ipv6(..) => Ipv6Header::LEN + Ipv6FragmentHeader::LEN,
    };
    // In units of 8 bytes.
    let length = (mtu - overhead) / 8;
    let pieces = payload.payload.chunks(length * 8);
    let last = pieces.len() - 1;
    let fragment = |(index, piece): (usize, &[u8])| {
        let offset = IpFragOffset::try_new((index * length) as u16).unwrap();
        let mut headers = headers.clone();
        match &mut headers {
            IpHeaders::Ipv4(header, _) => {
                header.identification = identification;
                header.dont_fragment = false;
                header.more_fragments = index < last;
                header.fragment_offset = offset;
            }
            IpHeaders::Ipv6(_, extensions) => {
                extensions.fragment = Some(Ipv6FragmentHeader {
                    next_header: IpNumber::UDP,
                    fragment_offset: offset,
                    more_fragments: index < last,
                    identification: identification.into(),
                });
            }
        }
        headers.set_payload_len(piece.len()).unwrap();
        headers.set_next_headers(IpNumber::UDP);
        let mut fragment = Vec::new();
        headers.write(&mut fragment).unwrap();
        fragment.extend(piece);
        fragment
    };
    pieces.enumerate().map(fragment).collect()
}

/// An IP packet in a frame.
pub fn in_frame([source, destination]: [Mac; 2], packet: &[u8]) -> Vec<u8> {
    let ethertype = match packet[0] >> 4 {
        4 => [0x08, 0x00],
        _ => [0x86, 0xdd],
    };
    [&destination, &source, &ethertype[..], packet].concat()
}

/// An IP packet inside another one, in a frame.
pub fn encapsulated([source, destination]: [Mac; 2], outer: IpHeaders, packet: &[u8]) -> Vec<u8> {
    let protocol = match packet[0] >> 4 {
        4 => IpNumber::IPV4,
        _ => IpNumber::IPV6,
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source, destination)
        .ip(outer)
        .write(&mut frame, protocol, packet)
        .unwrap();
    frame
}

/// Where IP in IP goes.
#[derive(Debug)]
pub struct Capsule {
    pub destination_mac: Mac,
    /// Source and destination of the outer header.
    pub outer: [IpAddr; 2],
}

/// The IP in IP in a frame, if it holds any.
pub fn capsule(frame: &[u8]) -> Option<Capsule> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (protocol, outer) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let outer = [header.source_addr(), header.destination_addr()];
            (header.protocol(), outer.map(IpAddr::from))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let outer = [header.source_addr(), header.destination_addr()];
            (header.next_header(), outer.map(IpAddr::from))
        }
        NetSlice::Arp(_) => return None,
    };
    let [_, destination_mac] = macs(&packet);
    let is_capsule = matches!(protocol, IpNumber::IPV4 | IpNumber::IPV6);
    is_capsule.then_some(Capsule {
        destination_mac,
        outer,
    })
}

fn macs(packet: &SlicedPacket) -> [Mac; 2] {
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else {
        panic!("not Ethernet")
    };
    [ethernet.source(), ethernet.destination()]
}
