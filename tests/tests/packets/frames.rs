//! Frames, built by etherparse.

use std::{
    fmt::{self, Display},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Header,
    Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions,
    Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader,
    PacketBuilder, SingleVlanHeader, TcpHeader, UdpHeader, VlanId, VlanPcp, ether_type,
    icmpv4::DestUnreachableHeader, icmpv6::NeighborAdvertisementHeader, ip_number,
};

use crate::fixture::{LAN, Service};

pub type Mac = [u8; 6];

/// Whoever sends to the balancer: a client, or the router to it.
pub const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0x01, 0xc1];
/// A station that is neither the client nor the balancer.
pub const STRANGER_MAC: Mac = [0x02, 0, 0, 0, 0x01, 0x77];
pub const BROADCAST: Mac = [0xff; 6];

/// The shortest Ethernet frame, without its checksum (IEEE 802.3 section 4.4.2).
pub const SHORTEST: usize = 60;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// A client's address.
    pub fn client(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(198, 51, 100, 7).into(),
            Self::V6 => "2001:db8:7::7".parse().expect("an address"),
        }
    }

    /// A router's address, on the way to a client.
    pub fn router(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113, 1).into(),
            Self::V6 => "2001:db8:113::1".parse().expect("an address"),
        }
    }

    /// An address that is neither a VIP nor the balancer's.
    pub fn stranger(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 9, 1, 200).into(),
            Self::V6 => "2001:db8:9:1::c8".parse().expect("an address"),
        }
    }

    /// What stands in the Ethernet header.
    pub const fn ether_type(self) -> EtherType {
        match self {
            Self::V4 => ether_type::IPV4,
            Self::V6 => ether_type::IPV6,
        }
    }

    /// The length of an IP header without options.
    pub const fn header_length(self) -> usize {
        match self {
            Self::V4 => Ipv4Header::MIN_LEN,
            Self::V6 => Ipv6Header::LEN,
        }
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp)
    }

    pub const fn number(self) -> IpNumber {
        match self {
            Self::Tcp => ip_number::TCP,
            Self::Udp => ip_number::UDP,
        }
    }

    /// The length of a header without options.
    pub const fn header_length(self) -> usize {
        match self {
            Self::Tcp => TcpHeader::MIN_LEN,
            Self::Udp => UdpHeader::LEN,
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A kind of flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub family: Family,
    pub protocol: Protocol,
}

impl Flow {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let protocols =
            |family| [Protocol::Tcp, Protocol::Udp].map(|protocol| Self { family, protocol });
        Family::ALL.into_iter().flat_map(protocols)
    }

    /// Every kind over one family.
    pub fn over(family: Family) -> impl Iterator<Item = Self> {
        Self::all().filter(move |flow| flow.family == family)
    }
}

impl Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.family)
    }
}

/// An 802.1Q or 802.1ad tag.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    ether_type: EtherType,
    id: u16,
}

impl Tag {
    /// 802.1Q.
    pub const fn q(id: u16) -> Self {
        Self {
            ether_type: ether_type::VLAN_TAGGED_FRAME,
            id,
        }
    }

    /// 802.1ad.
    pub const fn ad(id: u16) -> Self {
        Self {
            ether_type: ether_type::PROVIDER_BRIDGING,
            id,
        }
    }
}

/// A TCP segment or UDP datagram: all that a case may want to be different.
#[derive(Clone, Debug)]
pub struct Segment {
    pub flow: Flow,
    pub destination_mac: Mac,
    pub source_mac: Mac,
    pub tags: Vec<Tag>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// ToS or traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Of a datagram that may be fragmented; 16 bits of it in IPv4.
    pub identification: u32,
    /// Of IPv4.
    pub dont_fragment: bool,
    /// Of IPv4.
    pub options: Ipv4Options,
    /// Of IPv6; in fragments, those that each of them has.
    pub extensions: Vec<Extension>,
    /// Of IPv6: those after [`Self::extensions`] that are cut into fragments with what follows.
    pub fragmentable: Vec<Extension>,
    /// Its ports and checksum are filled in.
    pub tcp: TcpHeader,
    /// UDP over IPv4 may do without.
    pub udp_checksum: bool,
    pub payload: Vec<u8>,
}

impl Segment {
    /// From the client to a port of a service's VIP, by way of the balancer.
    pub fn to(flow: Flow, service: &Service, port: u16) -> Self {
        Self::between(flow, service.vip(flow.family), port)
    }

    /// From the client to any address, by way of the balancer.
    pub fn between(flow: Flow, destination: IpAddr, port: u16) -> Self {
        let mut tcp = TcpHeader::new(0, 0, 0x0102_0304, 0xfaf0);
        tcp.syn = true;
        Self {
            flow,
            destination_mac: LAN.mac,
            source_mac: CLIENT_MAC,
            tags: Vec::new(),
            source: flow.family.client(),
            destination,
            source_port: 40_000,
            destination_port: port,
            ttl: 57,
            traffic_class: 0,
            identification: 0x1234,
            dont_fragment: true,
            options: Ipv4Options::default(),
            extensions: Vec::new(),
            fragmentable: Vec::new(),
            tcp,
            udp_checksum: true,
            payload: b"a question of a client".to_vec(),
        }
    }

    /// The same, but for something.
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The other way.
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self.clone()
        }
    }

    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        self.ethernet(&self.packet())
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        self.carrying(self.flow.protocol.number(), &self.transport())
    }

    /// The frame that carries these bytes of what can be fragmented.
    pub fn fragment(&self, bytes: Range<usize>) -> Vec<u8> {
        self.ethernet(&self.fragment_packet(bytes))
    }

    /// The IP packet of [`Self::fragment`].
    pub fn fragment_packet(&self, bytes: Range<usize>) -> Vec<u8> {
        let protocol = self.flow.protocol.number();
        let (protocol, payload) = chain(&self.fragmentable, protocol, self.transport());
        let position = (bytes.start, bytes.end < payload.len());
        self.ip(Some(position), protocol, payload[bytes].to_vec())
    }

    /// How many bytes can be fragmented.
    pub fn fragmentable_length(&self) -> usize {
        let extensions = self.fragmentable.iter().map(|it| it.bytes.len());
        extensions.sum::<usize>() + self.transport().len()
    }

    /// The frame with an ICMP message in the place of the segment.
    pub fn icmp(&self, kind: &Icmp, payload: &[u8]) -> Vec<u8> {
        let message = match kind {
            Icmp::V4(kind) => {
                let header = Icmpv4Header::with_checksum(kind.clone(), payload);
                [&header.to_bytes()[..], payload].concat()
            }
            Icmp::V6(kind) => {
                let (IpAddr::V6(source), IpAddr::V6(destination)) = (self.source, self.destination)
                else {
                    panic!("ICMPv6 from {} to {}", self.source, self.destination)
                };
                let addresses = [source, destination].map(|address| address.octets());
                let header =
                    Icmpv6Header::with_checksum(*kind, addresses[0], addresses[1], payload)
                        .expect("it fits a datagram");
                [&header.to_bytes()[..], payload].concat()
            }
        };
        self.ethernet(&self.carrying(kind.number(), &message))
    }

    /// The frame with another protocol's packet in the place of the segment.
    pub fn of_protocol(&self, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
        self.ethernet(&self.carrying(protocol, payload))
    }

    /// How many bytes of headers there are.
    pub fn header_length(&self) -> usize {
        self.frame().len() - self.payload.len()
    }

    /// The same with as much payload as makes the IP packet so long.
    pub fn with_packet_length(&self, length: usize) -> Self {
        let headers = self.packet().len() - self.payload.len();
        // Bytes that differ from place to place.
        let payload = (0..length - headers).map(|index| (index % 251) as u8);
        self.with(|it| it.payload = payload.collect())
    }

    fn ethernet(&self, packet: &[u8]) -> Vec<u8> {
        let macs = [self.destination_mac, self.source_mac];
        ethernet(macs, &self.tags, self.flow.family.ether_type(), packet)
    }

    /// Puts all IP headers before a payload.
    fn carrying(&self, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
        let (protocol, payload) = chain(&self.fragmentable, protocol, payload.to_vec());
        self.ip(None, protocol, payload)
    }

    /// Puts an IP header, and the extension headers of each fragment, before a payload, or before the fragment of
    /// it at an offset, with more to follow or not.
    fn ip(&self, fragment: Option<(usize, bool)>, protocol: IpNumber, payload: Vec<u8>) -> Vec<u8> {
        let mut headers = ip(self.source, self.destination, self.ttl);
        let mut extensions = self.extensions.clone();
        match &mut headers {
            IpHeaders::Ipv4(header, _) => {
                header.dscp = (self.traffic_class >> 2).try_into().expect("6 bits");
                header.ecn = (self.traffic_class & 3).try_into().expect("2 bits");
                header.options = self.options.clone();
                header.identification = self.identification.try_into().expect("16 bits");
                header.dont_fragment = self.dont_fragment;
                if let Some((offset, more_fragments)) = fragment {
                    header.dont_fragment = false;
                    header.fragment_offset = fragment_offset(offset);
                    header.more_fragments = more_fragments;
                }
            }
            IpHeaders::Ipv6(header, _) => {
                header.traffic_class = self.traffic_class;
                let extension =
                    |(offset, more)| Extension::fragment(offset, more, self.identification);
                extensions.extend(fragment.map(extension));
            }
        }
        let (protocol, payload) = chain(&extensions, protocol, payload);
        datagram(headers, protocol, &payload)
    }

    /// The transport header and its payload.
    fn transport(&self) -> Vec<u8> {
        let [source, destination] = [self.source_port, self.destination_port];
        let builder = PacketBuilder::ip(ip(self.source, self.destination, self.ttl));
        let mut packet = Vec::new();
        match self.flow.protocol {
            Protocol::Tcp => {
                let mut tcp = self.tcp.clone();
                (tcp.source_port, tcp.destination_port) = (source, destination);
                builder.tcp_header(tcp).write(&mut packet, &self.payload)
            }
            Protocol::Udp if self.udp_checksum => builder
                .udp(source, destination)
                .write(&mut packet, &self.payload),
            Protocol::Udp => {
                let length = self.payload.len();
                let header = UdpHeader::without_ipv4_checksum(source, destination, length)
                    .expect("it fits a datagram");
                let payload = [&header.to_bytes()[..], &self.payload].concat();
                builder.write(&mut packet, ip_number::UDP, &payload)
            }
        }
        .expect("it fits a datagram");
        packet.split_off(self.flow.family.header_length())
    }
}

/// The type and all that is not payload of an ICMP message.
#[derive(Clone, Debug)]
pub enum Icmp {
    V4(Icmpv4Type),
    V6(Icmpv6Type),
}

impl Icmp {
    /// Any type and code, with what stands in the second word of the header.
    pub const fn of(family: Family, type_u8: u8, code_u8: u8, bytes5to8: [u8; 4]) -> Self {
        match family {
            Family::V4 => Self::V4(Icmpv4Type::Unknown {
                type_u8,
                code_u8,
                bytes5to8,
            }),
            Family::V6 => Self::V6(Icmpv6Type::Unknown {
                type_u8,
                code_u8,
                bytes5to8,
            }),
        }
    }

    /// The error that says which MTU would fit.
    pub fn too_big(family: Family, mtu: u32) -> Self {
        match family {
            Family::V4 => Self::V4(Icmpv4Type::DestinationUnreachable(
                DestUnreachableHeader::FragmentationNeeded {
                    next_hop_mtu: mtu.try_into().expect("16 bits"),
                },
            )),
            Family::V6 => Self::V6(Icmpv6Type::PacketTooBig { mtu }),
        }
    }

    /// A ping.
    pub const fn echo_request(family: Family, header: IcmpEchoHeader) -> Self {
        match family {
            Family::V4 => Self::V4(Icmpv4Type::EchoRequest(header)),
            Family::V6 => Self::V6(Icmpv6Type::EchoRequest(header)),
        }
    }

    /// The answer to a ping.
    pub const fn echo_reply(family: Family, header: IcmpEchoHeader) -> Self {
        match family {
            Family::V4 => Self::V4(Icmpv4Type::EchoReply(header)),
            Family::V6 => Self::V6(Icmpv6Type::EchoReply(header)),
        }
    }

    const fn number(&self) -> IpNumber {
        match self {
            Self::V4(_) => ip_number::ICMP,
            Self::V6(_) => ip_number::IPV6_ICMP,
        }
    }
}

/// An extension header of IPv6. Its first byte, the next header, is filled in.
#[derive(Clone, Debug)]
pub struct Extension {
    number: IpNumber,
    bytes: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options that say nothing, in a header of `length` bytes.
    pub fn hop_by_hop(length: usize) -> Self {
        Self::options(ip_number::IPV6_HEADER_HOP_BY_HOP, length)
    }

    /// Destination options that say nothing, in a header of `length` bytes.
    pub fn destination_options(length: usize) -> Self {
        Self::options(ip_number::IPV6_DESTINATION_OPTIONS, length)
    }

    /// A routing header without addresses, of an experimental type (RFC 4727 section 3.5).
    pub fn routing(segments_left: u8) -> Self {
        let route = [253, segments_left, 0, 0, 0, 0];
        Self::raw(ip_number::IPV6_ROUTE_HEADER, &route)
    }

    /// A fragment header.
    pub fn fragment(offset: usize, more_fragments: bool, identification: u32) -> Self {
        let header = Ipv6FragmentHeader::new(
            IpNumber(0),
            fragment_offset(offset),
            more_fragments,
            identification,
        );
        Self {
            number: ip_number::IPV6_FRAGMENTATION_HEADER,
            bytes: header.to_bytes().to_vec(),
        }
    }

    /// An authentication header (RFC 4302 section 2).
    pub fn authentication() -> Self {
        Self {
            number: ip_number::AUTHENTICATION_HEADER,
            bytes: vec![
                0, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0,
            ],
        }
    }

    /// Eight bytes of a header that only some hosts know.
    pub fn unusual(number: u8) -> Self {
        Self::raw(IpNumber(number), &[0; 6])
    }

    /// PadN (RFC 8200 section 4.2) as far as the header goes.
    fn options(number: IpNumber, length: usize) -> Self {
        let mut options = vec![0; length - 2];
        options[0] = 1;
        options[1] = (length - 4).min(255) as u8;
        Self::raw(number, &options)
    }

    /// `payload` is what follows the next header and the length.
    fn raw(number: IpNumber, payload: &[u8]) -> Self {
        let header = Ipv6RawExtHeader::new_raw(IpNumber(0), payload);
        Self {
            number,
            bytes: header.expect("whole words of 8 bytes").to_bytes().to_vec(),
        }
    }
}

/// Puts extension headers before a payload. Gives the number of the first header, too.
fn chain(extensions: &[Extension], protocol: IpNumber, payload: Vec<u8>) -> (IpNumber, Vec<u8>) {
    let prepend = |(next, payload): (IpNumber, Vec<u8>), extension: &Extension| {
        let mut bytes = extension.bytes.clone();
        bytes[0] = next.0;
        bytes.extend(payload);
        (extension.number, bytes)
    };
    extensions.iter().rev().fold((protocol, payload), prepend)
}

/// Of an offset in bytes.
fn fragment_offset(bytes: usize) -> IpFragOffset {
    let units = (bytes / 8).try_into().expect("an offset in a datagram");
    IpFragOffset::try_new(units).expect("13 bits")
}

/// A frame. MAC addresses are those of destination and source.
pub fn ethernet(
    [destination, source]: [Mac; 2],
    tags: &[Tag],
    ether_type: EtherType,
    payload: &[u8],
) -> Vec<u8> {
    let mut types = tags.iter().map(|tag| tag.ether_type).chain([ether_type]);
    let mut next_type = || types.next().expect("one more than tags");
    let header = Ethernet2Header {
        source,
        destination,
        ether_type: next_type(),
    };
    let mut frame = header.to_bytes().to_vec();
    for tag in tags {
        let tag = SingleVlanHeader {
            pcp: VlanPcp::ZERO,
            drop_eligible_indicator: false,
            vlan_id: VlanId::try_new(tag.id).expect("12 bits"),
            ether_type: next_type(),
        };
        frame.extend(tag.to_bytes());
    }
    frame.extend(payload);
    frame
}

/// The client's frame to the balancer, untagged.
pub fn to_balancer(ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    ethernet([LAN.mac, CLIENT_MAC], &[], ether_type, payload)
}

/// An IP header between two addresses of one family.
pub fn ip(source: IpAddr, destination: IpAddr, ttl: u8) -> IpHeaders {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                time_to_live: ttl,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                hop_limit: ttl,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, Ipv6Extensions::default())
        }
        _ => panic!("{source} and {destination} are of different families"),
    }
}

/// An IP packet of any protocol.
pub fn datagram(mut headers: IpHeaders, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    headers
        .set_payload_len(payload.len())
        .expect("it fits a datagram");
    match headers {
        IpHeaders::Ipv4(mut header, _) => {
            header.protocol = protocol;
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes()[..], payload].concat()
        }
        // The library writes extension headers in one order only: they are part of the payload here.
        IpHeaders::Ipv6(mut header, _) => {
            header.next_header = protocol;
            [&header.to_bytes()[..], payload].concat()
        }
    }
}

/// Fills a frame up to a length with zeros, if it is shorter.
pub fn padded(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.resize(frame.len().max(length), 0);
    frame
}

/// An ARP packet, sent to `destination`.
pub fn arp(destination: Mac, tags: &[Tag], packet: &ArpEthIpv4Packet) -> Vec<u8> {
    let bytes = packet.clone().to_arp_packet().to_bytes();
    ethernet(
        [destination, packet.sender_mac],
        tags,
        ether_type::ARP,
        &bytes,
    )
}

/// Who has `target`? The client asks.
pub fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> ArpEthIpv4Packet {
    ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: CLIENT_MAC,
        sender_ipv4: sender.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    }
}

/// The answer of the owner of `mac`.
pub fn arp_reply(mac: Mac, request: &ArpEthIpv4Packet) -> ArpEthIpv4Packet {
    ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: mac,
        sender_ipv4: request.target_ipv4,
        target_mac: request.sender_mac,
        target_ipv4: request.sender_ipv4,
    }
}

/// A neighbour solicitation or advertisement (RFC 4861 sections 4.3 and 4.4).
#[derive(Clone, Debug)]
pub struct NeighborMessage {
    pub destination_mac: Mac,
    pub source_mac: Mac,
    pub tags: Vec<Tag>,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub hop_limit: u8,
    pub kind: Icmpv6Type,
    pub target: Ipv6Addr,
    pub options: Vec<u8>,
}

impl NeighborMessage {
    /// The client asks for the target's MAC address.
    pub fn solicitation(target: Ipv6Addr) -> Self {
        let [.., x, y, z] = target.octets();
        Self {
            destination_mac: [0x33, 0x33, 0xff, x, y, z],
            source_mac: CLIENT_MAC,
            tags: Vec::new(),
            source: "fe80::c1".parse().expect("an address"),
            destination: solicited_node(target),
            hop_limit: 255,
            kind: Icmpv6Type::NeighborSolicitation,
            target,
            options: link_layer_address(1, CLIENT_MAC),
        }
    }

    /// The answer of the owner of `mac`, in the solicitation's VLAN.
    pub fn advertisement(&self, mac: Mac, solicited: bool) -> Self {
        Self {
            destination_mac: self.source_mac,
            source_mac: mac,
            source: self.target,
            destination: self.source,
            hop_limit: 255,
            kind: Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
                router: false,
                solicited,
                r#override: true,
            }),
            options: link_layer_address(2, mac),
            ..self.clone()
        }
    }

    /// The same, but for something.
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        let payload = [&self.target.octets()[..], &self.options].concat();
        let mut packet = Vec::new();
        let headers = ip(self.source.into(), self.destination.into(), self.hop_limit);
        PacketBuilder::ip(headers)
            .icmpv6(self.kind)
            .write(&mut packet, &payload)
            .expect("it fits a datagram");
        let macs = [self.destination_mac, self.source_mac];
        ethernet(macs, &self.tags, ether_type::IPV6, &packet)
    }
}

/// The group of the owners of addresses with the same end (RFC 4291 section 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z])
}

/// A link-layer address option (RFC 4861 section 4.6.1): 1 for the source's, 2 for the target's.
fn link_layer_address(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}
