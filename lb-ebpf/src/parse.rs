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

/// The bytes of a TCP header that are always there.
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// The bytes of its transport header that an ICMP error quotes at least (RFC 792).
const QUOTED: usize = 8;

/// What was found in a packet.
pub enum Parsed {
    /// A packet of a TCP or UDP flow, in its usual form.
    Ip(IpPacket),
    /// A fragment, a packet with extension headers, or an ICMP error. See [`crate::State::forget`].
    UnusualIp(IpPacket),
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
    /// The flow. Of a later fragment the ports are unknown and zero.
    pub flow: Flow,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
    /// Bytes of the IP packet, its header included.
    pub length: u32,
    /// Tags before the IP header. A byte, because the verifier may believe it to be any.
    tags: u8,
    /// Whether it is an ICMP error about a packet that went to the client.
    pub icmp_error: bool,
}

impl IpPacket {
    /// Bytes before the IP header.
    #[inline(always)]
    pub const fn offset(&self) -> usize {
        ETHERNET + self.tags as usize * TAG
    }

    /// Bytes of the frame up to the end of the IP packet; padding may follow.
    #[inline(always)]
    pub const fn end(&self) -> usize {
        self.offset() + self.length as usize
    }
}

/// Which part of a datagram a packet is. The fragments of a datagram share its identification, which is given
/// as it lies in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The beginning, with the ports.
    First(u32),
    /// The middle or the end.
    Later(u32),
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
    ethernet(frame).unwrap_or(Parsed::Other)
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
        is_group: header.u8::<0>() & 1 != 0,
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
}

#[inline(always)]
fn ipv4(packet: Frame<'_>, offset: usize) -> Option<Parsed> {
    const ECHO_REQUEST: u16 = u16::from_be_bytes([8, 0]);

    let header = packet.view::<IPV4>()?;
    let payload = ipv4_payload(packet, header)?;
    let length = usize::from(u16::from_be(header.u16::<2>()));
    let room = length.checked_sub(payload.offset)?;
    let source = Address::ipv4_words(header.u32::<12>());
    let destination = Address::ipv4_words(header.u32::<16>());
    let (flow, icmp_error) = if payload.protocol != ICMPV4 {
        (flow(&payload, room, source, destination)?, false)
    } else if payload.fragment != Fragment::Whole || room < ICMP {
        return None;
    } else {
        let message = payload.start.view::<ICMP>()?;
        if u16::from_be(message.u16::<0>()) == ECHO_REQUEST {
            return Some(Parsed::EchoRequest(EchoRequest {
                offset,
                icmp_offset: offset + payload.offset,
                end: offset + length,
                source,
                destination,
            }));
        }
        let room = room - ICMP;
        let flow = flow_of_icmp_error(payload.start, message.u8::<0>(), room, destination)?;
        (flow, true)
    };
    let unusual = icmp_error || payload.fragment != Fragment::Whole;
    Some(described(
        flow,
        payload.fragment,
        length,
        offset,
        icmp_error,
        unusual,
    ))
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
    let identification = u32::from(header.u16::<4>());
    Some(Payload {
        start: packet.skip(offset)?,
        offset,
        protocol: header.u8::<9>(),
        fragment: match position {
            0 => Fragment::Whole,
            MORE_FRAGMENTS => Fragment::First(identification),
            _ => Fragment::Later(identification),
        },
    })
}

/// The flow that an ICMP error is about: it quotes a packet that a real server sent from the VIP to the client.
#[inline(always)]
fn flow_of_icmp_error(
    message: Frame<'_>,
    kind: u8,
    room: usize,
    vip: AddressWords,
) -> Option<Flow> {
    const UNREACHABLE: u8 = 3;
    const TIME_EXCEEDED: u8 = 11;
    const PARAMETER_PROBLEM: u8 = 12;

    if !matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM) {
        return None;
    }
    let quote = message.skip(ICMP)?;
    let header = quote.view::<IPV4>()?;
    quoted_flow(
        &ipv4_payload(quote, header)?,
        room,
        Address::ipv4_words(header.u32::<12>()),
        Address::ipv4_words(header.u32::<16>()),
        vip,
    )
}

#[inline(always)]
fn ipv6(packet: Frame<'_>, offset: usize, group: bool) -> Option<Parsed> {
    const ECHO_REQUEST: u8 = 128;
    const NEIGHBOR_SOLICITATION: u8 = 135;

    let header = packet.view::<IPV6>()?;
    let source = [header.u64::<8>(), header.u64::<16>()];
    let destination = [header.u64::<24>(), header.u64::<32>()];
    let payload = ipv6_payload(packet, header)?;
    // A length of 0 announces a jumbogram (RFC 2675), which no Ethernet carries.
    let length = IPV6 + usize::from(u16::from_be(header.u16::<4>()));
    let room = length.checked_sub(payload.offset)?;
    let (flow, icmp_error) = if payload.protocol != ICMPV6 {
        if group {
            return None;
        }
        (flow(&payload, room, source, destination)?, false)
    } else if payload.fragment != Fragment::Whole || room < ICMP {
        return None;
    } else {
        let message = payload.start.view::<ICMP>()?;
        match message.u8::<0>() {
            NEIGHBOR_SOLICITATION if payload.offset == IPV6 => {
                let hop_limit = header.u8::<7>();
                return neighbor_solicitation(payload.start, offset, source, hop_limit);
            }
            _ if group => return None,
            ECHO_REQUEST if message.u8::<1>() == 0 => {
                return Some(Parsed::EchoRequest(EchoRequest {
                    offset,
                    icmp_offset: offset + payload.offset,
                    end: offset + length,
                    source,
                    destination,
                }));
            }
            kind => {
                let room = room - ICMP;
                let flow = flow_of_icmpv6_error(payload.start, kind, room, destination)?;
                (flow, true)
            }
        }
    };
    let unusual = icmp_error || payload.offset != IPV6;
    Some(described(
        flow,
        payload.fragment,
        length,
        offset,
        icmp_error,
        unusual,
    ))
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
                8
            }
            _ => break,
        };
        payload.protocol = payload.start.view::<8>()?.u8::<0>();
        payload.start = payload.start.skip(length)?;
        payload.offset += length;
        if let Fragment::Later(_) = payload.fragment {
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

    let identification = header.u32::<4>();
    match u16::from_be(header.u16::<2>()) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) {
        0 => Fragment::Whole,
        MORE_FRAGMENTS => Fragment::First(identification),
        _ => Fragment::Later(identification),
    }
}

/// As [`flow_of_icmp_error`], for ICMPv6.
#[inline(always)]
fn flow_of_icmpv6_error(
    message: Frame<'_>,
    kind: u8,
    room: usize,
    vip: AddressWords,
) -> Option<Flow> {
    const UNREACHABLE: u8 = 1;
    const PARAMETER_PROBLEM: u8 = 4;

    if !(UNREACHABLE..=PARAMETER_PROBLEM).contains(&kind) {
        return None;
    }
    let quote = message.skip(ICMP)?;
    let header = quote.view::<IPV6>()?;
    quoted_flow(
        &ipv6_payload(quote, header)?,
        room,
        [header.u64::<8>(), header.u64::<16>()],
        [header.u64::<24>(), header.u64::<32>()],
        vip,
    )
}

/// The flow of a packet with `room` bytes after its IP headers.
#[inline(always)]
fn flow(
    payload: &Payload<'_>,
    room: usize,
    source: AddressWords,
    destination: AddressWords,
) -> Option<Flow> {
    let ports = match (payload.protocol, payload.fragment) {
        (_, Fragment::Later(_)) if may_be_of_a_flow(payload.protocol) => 0,
        (TCP, _) if room >= TCP_HEADER => payload.start.view::<TCP_HEADER>()?.u32::<0>(),
        (UDP, _) if room >= UDP_HEADER => payload.start.view::<UDP_HEADER>()?.u32::<0>(),
        _ => return None,
    };
    let ports = u32::from_be(ports);
    Some(Flow {
        source,
        destination,
        source_port: (ports >> 16) as u16,
        destination_port: ports as u16,
        protocol: payload.protocol,
    })
}

/// An IP packet of a flow, `offset` bytes behind the beginning of the frame and `length` bytes long.
#[inline(always)]
fn described(
    flow: Flow,
    fragment: Fragment,
    length: usize,
    offset: usize,
    icmp_error: bool,
    unusual: bool,
) -> Parsed {
    let ip = IpPacket {
        flow,
        fragment,
        length: length as u32,
        tags: ((offset - ETHERNET) / TAG) as u8,
        icmp_error,
    };
    if unusual {
        Parsed::UnusualIp(ip)
    } else {
        Parsed::Ip(ip)
    }
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
    let later = matches!(payload.fragment, Fragment::Later(_));
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
