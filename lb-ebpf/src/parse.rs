//! What a packet is.
//!
//! Ethernet (IEEE 802.3) with up to two tags (802.1Q, 802.1ad), ARP (RFC 826), IPv4 with options (RFC 791),
//! IPv6 with extension headers (RFC 8200), TCP, UDP, their fragments, ICMP errors about them (RFC 792, RFC
//! 4443), echo requests, neighbour solicitations (RFC 4861). Whatever is malformed or unknown is
//! [`Parsed::Other`]: the kernel's business.

use lb_common::{
    Address,
    address::AddressWords,
    hash,
    protocol::{TCP, UDP},
};

use crate::frame::{Frame, View};

/// Length of an Ethernet header without tags.
pub const ETHERNET: usize = 14;
/// Length of an 802.1Q or 802.1ad tag.
pub const TAG: usize = 4;
/// Length of an IPv4 header without options.
pub const IPV4: usize = 20;
/// Length of an IPv6 header.
pub const IPV6: usize = 40;
/// Length of the fixed part of an ICMP message.
pub const ICMP: usize = 8;
/// Length of a neighbour solicitation's or advertisement's fixed part (RFC 4861 sections 4.3 and 4.4).
pub const NEIGHBOR_MESSAGE: usize = 24;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_8021Q: u16 = 0x8100;
const ETHERTYPE_8021AD: u16 = 0x88a8;

/// ICMP, as an IP protocol number.
pub const ICMPV4: u8 = 1;
/// ICMP for IPv6, as an IP protocol number.
pub const ICMPV6: u8 = 58;

/// Flags of a TCP header (RFC 9293 section 3.1).
pub mod tcp_flag {
    /// The sender has no more to say.
    pub const FIN: u8 = 0x01;
    /// The connection begins.
    pub const SYN: u8 = 0x02;
    /// There is no connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
}

/// Length of a TCP header without options.
pub const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Bytes of a TCP header up to its flags.
const UP_TO_FLAGS: usize = 14;
/// The bit of a destination MAC address that says that it is that of a group of stations.
const GROUP: u8 = 1;
/// The bytes of its transport header that an ICMP error quotes at least (RFC 792).
const QUOTED: usize = 8;

/// What was found in a packet.
pub enum Parsed {
    /// A packet of a TCP or UDP flow, a fragment of one, or an ICMP error about one.
    Ip(IpPacket),
    /// Who has an IPv4 address?
    ArpRequest(ArpRequest),
    /// Who has an IPv6 address?
    NeighborSolicitation(NeighborSolicitation),
    /// A ping.
    EchoRequest(EchoRequest),
    /// Anything else.
    Other,
}

/// A packet of a flow: TCP, UDP, a fragment of one, or an ICMP error about one. Its headers are there; whether
/// all of it is must be checked.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket {
    /// The flow. Of a later fragment the ports are unknown and zero; an ICMP error has the addresses of its own header,
    /// until [`quoted`] tells what it is about.
    pub flow: Flow,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
    /// What the fragments of a datagram share, as it lies in the packet. Of a whole datagram of IPv6 it is 0.
    pub identification: u32,
    /// Bytes of the IP packet, its header included.
    pub length: u32,
    /// Tags before the IP header. A byte, because the verifier may believe it to be any.
    tags: u8,
    /// Whether it is an ICMP error about a packet that went to the client.
    pub icmp_error: bool,
    /// The flags of its TCP header ([`tcp_flag`]), if it has one.
    pub tcp_flags: u8,
    /// Length of the IP header, with options or extension headers, in units of four bytes; 0 if it is longer than
    /// that can say.
    header_length: u8,
}

impl IpPacket {
    /// Bytes before the IP header.
    #[inline(always)]
    pub const fn offset(&self) -> usize {
        ETHERNET + self.tags as usize * TAG
    }

    /// Bytes of the IP header with its options or extension headers.
    #[inline(always)]
    pub const fn header_length(&self) -> usize {
        self.header_length as usize * 4
    }

    /// Bytes of the frame up to the end of the IP packet; padding may follow.
    #[inline(always)]
    pub const fn end(&self) -> usize {
        self.offset() + self.length as usize
    }
}

/// Which part of a datagram a packet is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The beginning, with the ports.
    First,
    /// The middle or the end.
    Later,
}

/// Client address and port, VIP and port, protocol. Ports are in host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client's address.
    pub source: AddressWords,
    /// The address that the client sends to.
    pub destination: AddressWords,
    /// The client's port.
    pub source_port: u16,
    /// The port that the client sends to.
    pub destination_port: u16,
    /// An IP protocol number.
    pub protocol: u8,
}

impl Flow {
    /// The flow's hash.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        hash::flow(
            self.source,
            self.destination,
            self.source_port,
            self.destination_port,
            self.protocol,
        )
    }

    /// Whether it is of IPv4.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        Address::words_are_ipv4(self.destination)
    }
}

/// An ARP request for an IPv4 address over Ethernet.
#[derive(Clone, Copy)]
pub struct ArpRequest {
    /// Bytes before the ARP header.
    pub offset: usize,
    /// The address asked for.
    pub target: AddressWords,
}

/// A neighbour solicitation.
#[derive(Clone, Copy)]
pub struct NeighborSolicitation {
    /// Bytes before the IPv6 header.
    pub offset: usize,
    /// Who asks; the unspecified address if to detect a duplicate (RFC 4862 section 5.4.2).
    pub source: AddressWords,
    /// The address asked for.
    pub target: AddressWords,
}

/// An ICMP or ICMPv6 echo request, of which `end` bytes should be there.
#[derive(Clone, Copy)]
pub struct EchoRequest {
    /// Bytes before the IP header.
    pub offset: usize,
    /// Bytes before the ICMP header.
    pub icmp_offset: usize,
    /// Bytes up to the end of the IP packet.
    pub end: usize,
    /// Who asks.
    pub source: AddressWords,
    /// Who is asked.
    pub destination: AddressWords,
}

/// Reads the headers.
#[inline(always)]
pub fn parse(frame: Frame<'_>) -> Parsed {
    // Most are plain, and sooner read as such.
    plain_ipv4(frame)
        .map(Parsed::Ip)
        .or_else(|| ethernet(frame))
        .unwrap_or(Parsed::Other)
}

/// A plain packet of IPv4: a whole TCP segment or UDP datagram, in a frame without tags or options. Who forwards it asks whether the
/// frame is for us ([`crate::ethernet`]), so a group frame need not be told apart here.
#[inline(always)]
pub fn plain_ipv4(frame: Frame<'_>) -> Option<IpPacket> {
    const VERSION_4_WITHOUT_OPTIONS: u8 = 0x45;
    const FRAGMENT: u16 = 0x3fff;

    let headers = frame.view::<{ ETHERNET + IPV4 + UP_TO_FLAGS }>()?;
    let is_plain = headers.u16::<12>() == ETHERTYPE_IPV4.to_be()
        && headers.u8::<14>() == VERSION_4_WITHOUT_OPTIONS
        && headers.u16::<20>() & FRAGMENT.to_be() == 0;
    let flow = ported(
        Address::ipv4_words(headers.u32::<26>()),
        Address::ipv4_words(headers.u32::<30>()),
        headers.u32::<34>(),
        headers.u8::<23>(),
    );
    let length = u16::from_be(headers.u16::<16>()).into();
    is_plain.then(|| {
        plain(
            frame,
            flow,
            headers.u16::<18>(),
            length,
            IPV4,
            headers.u8::<47>(),
        )
    })?
}

/// As [`plain_ipv4`], without extension headers.
#[inline(always)]
pub fn plain_ipv6(frame: Frame<'_>) -> Option<IpPacket> {
    const VERSION_6: u8 = 0x60;

    let headers = frame.view::<{ ETHERNET + IPV6 + UP_TO_FLAGS }>()?;
    let flow = ported(
        [headers.u64::<22>(), headers.u64::<30>()],
        [headers.u64::<38>(), headers.u64::<46>()],
        headers.u32::<54>(),
        headers.u8::<20>(),
    );
    // The unspecified and the loopback address, and those that hold one of IPv4 (RFC 4291 section 2.5), are left to the
    // whole path: the rest of the shortcut need not look for them.
    let is_plain = headers.u16::<12>() == ETHERTYPE_IPV6.to_be()
        && headers.u8::<14>() & 0xf0 == VERSION_6
        && flow.source[0] != 0
        && flow.destination[0] != 0;
    let length = IPV6 + usize::from(u16::from_be(headers.u16::<18>()));
    is_plain.then(|| plain(frame, flow, 0, length, IPV6, headers.u8::<67>()))?
}

/// The rest of what makes a packet plain. `length` is that of the IP packet, with a header of `header` bytes.
#[inline(always)]
fn plain(
    frame: Frame<'_>,
    flow: Flow,
    identification: u16,
    length: usize,
    header: usize,
    tcp_flags: u8,
) -> Option<IpPacket> {
    let (tcp_flags, least) = match flow.protocol {
        TCP => (tcp_flags, TCP_HEADER),
        UDP => (0, UDP_HEADER),
        _ => return None,
    };
    let is_whole = length >= header + least && (ETHERNET + length) as u64 <= frame.len();
    is_whole.then_some(IpPacket {
        flow,
        fragment: Fragment::Whole,
        identification: identification.into(),
        length: length as u32,
        tags: 0,
        icmp_error: false,
        tcp_flags,
        header_length: (header / 4) as u8,
    })
}

#[inline(always)]
fn ethernet(frame: Frame<'_>) -> Option<Parsed> {
    let header = ethernet_header(frame)?;
    let offset = header.length;
    let payload = frame.skip(offset)?;
    match header.ethertype {
        // A unicast packet in a group frame must not be forwarded (RFC 1812 section 5.3.4).
        ETHERTYPE_IPV4 if !header.is_group => ipv4(payload, offset),
        ETHERTYPE_IPV6 => ipv6(payload, offset, header.is_group),
        ETHERTYPE_ARP => arp(payload, offset),
        _ => None,
    }
}

/// An IP packet of whatever kind in a frame without tags. Its ports are not looked for.
#[inline(always)]
pub fn ip_packet(frame: Frame<'_>) -> Option<IpPacket> {
    let ethertype = u16::from_be(frame.view::<ETHERNET>()?.u16::<12>());
    let packet = frame.skip(ETHERNET)?;
    let (flow, length) = match ethertype {
        ETHERTYPE_IPV4 => {
            let header = packet.view::<IPV4>()?;
            let source = Address::ipv4_words(header.u32::<12>());
            let destination = Address::ipv4_words(header.u32::<16>());
            let length = u16::from_be(header.u16::<2>()).into();
            (portless(source, destination, header.u8::<9>()), length)
        }
        ETHERTYPE_IPV6 => {
            let header = packet.view::<IPV6>()?;
            let source = [header.u64::<8>(), header.u64::<16>()];
            let destination = [header.u64::<24>(), header.u64::<32>()];
            if Address::words_are_ipv4(source) || Address::words_are_ipv4(destination) {
                return None;
            }
            let length = IPV6 as u32 + u32::from(u16::from_be(header.u16::<4>()));
            (portless(source, destination, header.u8::<6>()), length)
        }
        _ => return None,
    };
    Some(IpPacket {
        flow,
        fragment: Fragment::Whole,
        identification: 0,
        length,
        tags: 0,
        icmp_error: false,
        tcp_flags: 0,
        header_length: 0,
    })
}

/// Who sent an ICMP or ICMPv6 echo reply, and its identifier in host byte order; of a frame without tags, and of IP packets
/// without extension headers.
#[inline(always)]
pub fn echo_reply(frame: Frame<'_>) -> Option<(AddressWords, u16)> {
    const ECHO_REPLY_V4: u8 = 0;
    const ECHO_REPLY_V6: u8 = 129;

    let ip = ip_packet(frame)?;
    let packet = frame.skip(ETHERNET)?;
    let (message, kind) = match ip.flow.protocol {
        ICMPV4 if ip.flow.is_ipv4() => {
            let payload = ipv4_payload(packet, packet.view::<IPV4>()?)?;
            (payload.start, ECHO_REPLY_V4)
        }
        ICMPV6 if !ip.flow.is_ipv4() => (packet.skip(IPV6)?, ECHO_REPLY_V6),
        _ => return None,
    };
    let message = message.view::<ICMP>()?;
    (message.u8::<0>() == kind).then(|| (ip.flow.source, u16::from_be(message.u16::<4>())))
}

/// An Ethernet header with up to two tags.
pub(crate) struct EthernetHeader {
    /// The type of the payload, in host byte order.
    pub ethertype: u16,
    /// In bytes, with the tags: 14, 18 or 22.
    pub length: usize,
    /// Whether the frame is for a group of stations.
    pub is_group: bool,
}

/// Reads the header and the tags of a frame.
#[inline(always)]
pub(crate) fn ethernet_header(frame: Frame<'_>) -> Option<EthernetHeader> {
    let header = frame.view::<ETHERNET>()?;
    let mut ethertype = u16::from_be(header.u16::<12>());
    let mut length = ETHERNET;
    for _ in 0..2 {
        if !matches!(ethertype, ETHERTYPE_8021Q | ETHERTYPE_8021AD) {
            break;
        }
        ethertype = u16::from_be(frame.skip(length)?.view::<TAG>()?.u16::<2>());
        length += TAG;
    }
    Some(EthernetHeader {
        ethertype,
        length,
        is_group: header.u8::<0>() & GROUP != 0,
    })
}

/// What follows the headers of an IP packet, or of one that an ICMP error quotes.
struct Payload<'packet> {
    start: Frame<'packet>,
    /// Where it starts, in bytes from the IP header.
    offset: usize,
    /// An IP protocol number.
    protocol: u8,
    fragment: Fragment,
    /// As in [`IpPacket`].
    identification: u32,
}

#[inline(always)]
fn ipv4(packet: Frame<'_>, offset: usize) -> Option<Parsed> {
    const UNREACHABLE: u8 = 3;
    const ECHO_REQUEST: u8 = 8;
    const TIME_EXCEEDED: u8 = 11;
    const PARAMETER_PROBLEM: u8 = 12;

    let header = packet.view::<IPV4>()?;
    let payload = ipv4_payload(packet, header)?;
    let length = usize::from(u16::from_be(header.u16::<2>()));
    let room = length.checked_sub(payload.offset)?;
    let source = Address::ipv4_words(header.u32::<12>());
    let destination = Address::ipv4_words(header.u32::<16>());
    if payload.protocol != ICMPV4 {
        let (flow, tcp_flags) = flow(&payload, room, source, destination)?;
        return Some(described(flow, &payload, length, offset, Some(tcp_flags)));
    }
    if payload.fragment != Fragment::Whole || room < ICMP {
        return None;
    }
    let message = payload.start.view::<ICMP>()?;
    match message.u8::<0>() {
        ECHO_REQUEST if message.u8::<1>() == 0 => {
            Some(echo_request(&payload, length, offset, source, destination))
        }
        UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {
            let flow = portless(source, destination, ICMPV4);
            Some(described(flow, &payload, length, offset, None))
        }
        _ => None,
    }
}

#[inline(always)]
fn ipv4_payload<'p>(packet: Frame<'p>, header: View<'p, IPV4>) -> Option<Payload<'p>> {
    const VERSION_4: u8 = 0x40;
    const MORE_FRAGMENTS: u16 = 0x2000;
    const FRAGMENT_OFFSET: u16 = 0x1fff;

    let version_and_length = header.u8::<0>();
    let offset = usize::from(version_and_length & 0xf) * 4;
    if version_and_length & 0xf0 != VERSION_4 || offset < IPV4 {
        return None;
    }
    let position = u16::from_be(header.u16::<6>()) & (MORE_FRAGMENTS | FRAGMENT_OFFSET);
    Some(Payload {
        start: packet.skip(offset)?,
        offset,
        protocol: header.u8::<9>(),
        fragment: match position {
            0 => Fragment::Whole,
            MORE_FRAGMENTS => Fragment::First,
            _ => Fragment::Later,
        },
        identification: header.u16::<4>().into(),
    })
}

#[inline(always)]
fn ipv6(packet: Frame<'_>, offset: usize, group: bool) -> Option<Parsed> {
    const UNREACHABLE: u8 = 1;
    const PARAMETER_PROBLEM: u8 = 4;
    const ECHO_REQUEST: u8 = 128;
    const NEIGHBOR_SOLICITATION: u8 = 135;

    let header = packet.view::<IPV6>()?;
    let source = [header.u64::<8>(), header.u64::<16>()];
    let destination = [header.u64::<24>(), header.u64::<32>()];
    let payload = ipv6_payload(packet, header)?;
    // A length of 0 announces a jumbogram (RFC 2675), which no Ethernet carries.
    let length = IPV6 + usize::from(u16::from_be(header.u16::<4>()));
    let room = length.checked_sub(payload.offset)?;
    if payload.protocol != ICMPV6 {
        if group {
            return None;
        }
        let (flow, tcp_flags) = flow(&payload, room, source, destination)?;
        return Some(described(flow, &payload, length, offset, Some(tcp_flags)));
    }
    if payload.fragment != Fragment::Whole || room < ICMP {
        return None;
    }
    let message = payload.start.view::<ICMP>()?;
    match message.u8::<0>() {
        NEIGHBOR_SOLICITATION if payload.offset == IPV6 => {
            let hop_limit = header.u8::<7>();
            neighbor_solicitation(payload.start, offset, source, hop_limit)
        }
        _ if group => None,
        ECHO_REQUEST if message.u8::<1>() == 0 => {
            Some(echo_request(&payload, length, offset, source, destination))
        }
        UNREACHABLE..=PARAMETER_PROBLEM => {
            let flow = portless(source, destination, ICMPV6);
            Some(described(flow, &payload, length, offset, None))
        }
        _ => None,
    }
}

/// Skips extension headers (RFC 8200 section 4).
#[inline(always)]
fn ipv6_payload<'p>(packet: Frame<'p>, header: View<'p, IPV6>) -> Option<Payload<'p>> {
    const VERSION_6: u8 = 0x60;
    /// Each at most once, destination options twice (RFC 8200 section 4.1).
    const MOST_EXTENSION_HEADERS: usize = 5;
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION_OPTIONS: u8 = 60;

    let addresses = [
        [header.u64::<8>(), header.u64::<16>()],
        [header.u64::<24>(), header.u64::<32>()],
    ];
    // IPv4 addresses have no place on the wire of IPv6, and must not be taken for those of IPv4.
    let mapped = addresses.into_iter().any(Address::words_are_ipv4);
    if header.u8::<0>() & 0xf0 != VERSION_6 || mapped {
        return None;
    }
    let mut payload = Payload {
        start: packet.skip(IPV6)?,
        offset: IPV6,
        protocol: header.u8::<6>(),
        fragment: Fragment::Whole,
        identification: 0,
    };
    for _ in 0..MOST_EXTENSION_HEADERS {
        let length = match payload.protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {
                let extension = payload.start.view::<8>()?;
                // With segments left, the packet is not where it is going (RFC 8200 section 4.4).
                if payload.protocol == ROUTING && extension.u8::<3>() != 0 {
                    return None;
                }
                (usize::from(extension.u8::<1>()) + 1) * 8
            }
            FRAGMENT if payload.fragment == Fragment::Whole => {
                let extension = payload.start.view::<8>()?;
                payload.fragment = ipv6_fragment(extension);
                payload.identification = extension.u32::<4>();
                8
            }
            _ => break,
        };
        payload.protocol = payload.start.view::<8>()?.u8::<0>();
        payload.start = payload.start.skip(length)?;
        payload.offset += length;
        if payload.fragment == Fragment::Later {
            break;
        }
    }
    Some(payload)
}

/// RFC 8200 section 4.5. What is whole and has a fragment header all the same is whole (RFC 6946).
#[inline(always)]
fn ipv6_fragment(header: View<'_, 8>) -> Fragment {
    const MORE_FRAGMENTS: u16 = 1;
    const FRAGMENT_OFFSET: u16 = 0xfff8;

    match u16::from_be(header.u16::<2>()) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) {
        0 => Fragment::Whole,
        MORE_FRAGMENTS => Fragment::First,
        _ => Fragment::Later,
    }
}

/// An ICMP error, with the flow that it is about: it quotes a packet that a real server sent from the VIP to the client.
#[inline(always)]
pub fn quoted(frame: Frame<'_>, error: &IpPacket) -> Option<IpPacket> {
    if error.header_length() == 0 {
        return None;
    }
    let headers = error.header_length() + ICMP;
    let room = (error.length as usize).checked_sub(headers)?;
    let quote = frame.skip_to(error.offset() + headers)?;
    let vip = error.flow.destination;
    let flow = if error.flow.is_ipv4() {
        let header = quote.view::<IPV4>()?;
        quoted_flow(
            &ipv4_payload(quote, header)?,
            room,
            Address::ipv4_words(header.u32::<12>()),
            Address::ipv4_words(header.u32::<16>()),
            vip,
        )
    } else {
        let header = quote.view::<IPV6>()?;
        quoted_flow(
            &ipv6_payload(quote, header)?,
            room,
            [header.u64::<8>(), header.u64::<16>()],
            [header.u64::<24>(), header.u64::<32>()],
            vip,
        )
    }?;
    Some(IpPacket { flow, ..*error })
}

#[inline(always)]
const fn portless(source: AddressWords, destination: AddressWords, protocol: u8) -> Flow {
    Flow {
        source,
        destination,
        source_port: 0,
        destination_port: 0,
        protocol,
    }
}

/// The flow of a packet with `room` bytes after its IP headers, and its TCP flags if it has any.
#[inline(always)]
fn flow(
    payload: &Payload<'_>,
    room: usize,
    source: AddressWords,
    destination: AddressWords,
) -> Option<(Flow, u8)> {
    let (ports, tcp_flags) = match (payload.protocol, payload.fragment) {
        (_, Fragment::Later) if may_be_of_a_flow(payload.protocol) => (0, 0),
        (TCP, _) if room >= TCP_HEADER => {
            let header = payload.start.view::<TCP_HEADER>()?;
            (header.u32::<0>(), header.u8::<13>())
        }
        (UDP, _) if room >= UDP_HEADER => (payload.start.view::<UDP_HEADER>()?.u32::<0>(), 0),
        _ => return None,
    };
    let flow = ported(source, destination, ports, payload.protocol);
    Some((flow, tcp_flags))
}

/// The flow of these addresses and ports, which are as they lie in the packet.
#[inline(always)]
const fn ported(source: AddressWords, destination: AddressWords, ports: u32, protocol: u8) -> Flow {
    let ports = u32::from_be(ports);
    Flow {
        source,
        destination,
        source_port: (ports >> 16) as u16,
        destination_port: ports as u16,
        protocol,
    }
}

/// A ping. `length` is that of the IP packet, which is at `offset`.
#[inline(always)]
const fn echo_request(
    payload: &Payload<'_>,
    length: usize,
    offset: usize,
    source: AddressWords,
    destination: AddressWords,
) -> Parsed {
    Parsed::EchoRequest(EchoRequest {
        offset,
        icmp_offset: offset + payload.offset,
        end: offset + length,
        source,
        destination,
    })
}

/// An IP packet of a flow, `offset` bytes behind the beginning of the frame and `length` bytes long. Without TCP flags it
/// is an ICMP error.
#[inline(always)]
fn described(
    flow: Flow,
    payload: &Payload<'_>,
    length: usize,
    offset: usize,
    tcp_flags: Option<u8>,
) -> Parsed {
    Parsed::Ip(IpPacket {
        flow,
        fragment: payload.fragment,
        identification: payload.identification,
        length: length as u32,
        tags: ((offset - ETHERNET) / TAG) as u8,
        icmp_error: tcp_flags.is_none(),
        tcp_flags: tcp_flags.unwrap_or(0),
        header_length: u8::try_from(payload.offset / 4).unwrap_or(0),
    })
}

/// Whether a later fragment may belong to a TCP or UDP flow. In IPv6 destination options may come between.
#[inline(always)]
const fn may_be_of_a_flow(protocol: u8) -> bool {
    const DESTINATION_OPTIONS: u8 = 60;

    matches!(protocol, TCP | UDP | DESTINATION_OPTIONS)
}

/// The flow, from the client's side, of a packet that an ICMP error quotes, in `room` bytes.
#[inline(always)]
fn quoted_flow(
    payload: &Payload<'_>,
    room: usize,
    source: AddressWords,
    destination: AddressWords,
    vip: AddressWords,
) -> Option<Flow> {
    let later = payload.fragment == Fragment::Later;
    let flow = matches!(payload.protocol, TCP | UDP);
    if later || !flow || source != vip || room < payload.offset + QUOTED {
        return None;
    }
    let ports = u32::from_be(payload.start.view::<QUOTED>()?.u32::<0>());
    Some(Flow {
        source: destination,
        destination: source,
        source_port: ports as u16,
        destination_port: (ports >> 16) as u16,
        protocol: payload.protocol,
    })
}

/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-------------------------------+-------------------------------+
/// |         hardware = 1          |       protocol = 0x0800       |  0
/// +---------------+---------------+-------------------------------+
/// |      6        |       4       |          request = 1          |  4
/// +---------------+---------------+-------------------------------+
/// |         sender MAC (6), sender IP (4), target MAC (6)         |  8, 14, 18
/// +---------------------------------------------------------------+
/// |                           target IP                           | 24
/// +---------------------------------------------------------------+
/// ```
#[inline(always)]
fn arp(packet: Frame<'_>, offset: usize) -> Option<Parsed> {
    const REQUEST_FOR_IPV4_OVER_ETHERNET: u64 = u64::from_be(0x0001_0800_0604_0001);

    let header = packet.view::<28>()?;
    let (sender, target) = (header.u32::<14>(), header.u32::<24>());
    // An announcement (RFC 5227 section 3) asks nothing.
    if header.u64::<0>() != REQUEST_FOR_IPV4_OVER_ETHERNET || sender == target {
        return None;
    }
    Some(Parsed::ArpRequest(ArpRequest {
        offset,
        target: Address::ipv4_words(target),
    }))
}

/// Checked as RFC 4861 section 7.1.1 asks, but for the options and the checksum: the answer says nothing that
/// is not public.
#[inline(always)]
fn neighbor_solicitation(
    packet: Frame<'_>,
    offset: usize,
    source: AddressWords,
    hop_limit: u8,
) -> Option<Parsed> {
    let message = packet.view::<NEIGHBOR_MESSAGE>()?;
    let target = [message.u64::<8>(), message.u64::<16>()];
    if message.u8::<1>() != 0 || hop_limit != 255 || Address::words_are_ipv4(target) {
        return None;
    }
    Some(Parsed::NeighborSolicitation(NeighborSolicitation {
        offset,
        source,
        target,
    }))
}

#[cfg(test)]
mod tests;
