//! What a packet is.
//!
//! Ethernet (IEEE 802.3) with up to two tags (802.1Q, 802.1ad), ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC
//! 8200), neighbour solicitations (RFC 4861), TCP and UDP. Whatever is malformed or unknown is
//! [`Parsed::Other`]: the kernel's business.

use lb_common::{Address, address::AddressWords, protocol};

use crate::frame::Frame;

/// Length of an Ethernet header without tags.
pub const ETHERNET: usize = 14;
/// Length of an 802.1Q or 802.1ad tag.
pub(crate) const TAG: usize = 4;
/// Length of an IPv6 header.
pub const IPV6: usize = 40;
/// Length of a neighbour solicitation's or advertisement's fixed part (RFC 4861 sections 4.3 and 4.4).
pub const NEIGHBOR_MESSAGE: usize = 24;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_8021Q: u16 = 0x8100;
const ETHERTYPE_8021AD: u16 = 0x88a8;

/// ICMP for IPv6, as an IP protocol number.
pub const ICMPV6: u8 = 58;
const NEIGHBOR_SOLICITATION: u8 = 135;

/// What was found in a packet.
pub enum Parsed {
    /// A whole TCP or UDP packet.
    Flow(Flow),
    /// Who has an IPv4 address?
    ArpRequest(ArpRequest),
    /// Who has an IPv6 address?
    NeighborSolicitation(NeighborSolicitation),
    /// Anything else.
    Other,
}

/// Client address and port, VIP and port, protocol. Ports are in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client's address.
    pub source: AddressWords,
    /// The address that the packet was sent to.
    pub destination: AddressWords,
    /// The client's port.
    pub source_port: u16,
    /// The port that the packet was sent to.
    pub destination_port: u16,
    /// An IP protocol number.
    pub protocol: u8,
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
        ETHERTYPE_IPV4 if !header.is_group => ipv4(payload),
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

#[inline(always)]
fn ipv4(packet: Frame<'_>) -> Option<Parsed> {
    const VERSION_4: u8 = 0x40;
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;

    let header = packet.view::<20>()?;
    let version_and_length = header.u8::<0>();
    let length = usize::from(version_and_length & 0xf) * 4;
    let fragment = u16::from_be(header.u16::<6>()) & MORE_FRAGMENTS_AND_OFFSET != 0;
    if version_and_length & 0xf0 != VERSION_4 || length < 20 || fragment {
        return None;
    }
    flow(
        packet.skip(length)?,
        header.u8::<9>(),
        Address::ipv4_words(header.u32::<12>()),
        Address::ipv4_words(header.u32::<16>()),
    )
}

#[inline(always)]
fn ipv6(packet: Frame<'_>, offset: usize, group: bool) -> Option<Parsed> {
    const VERSION_6: u8 = 0x60;

    let header = packet.view::<IPV6>()?;
    if header.u8::<0>() & 0xf0 != VERSION_6 {
        return None;
    }
    let next_header = header.u8::<6>();
    let source = [header.u64::<8>(), header.u64::<16>()];
    let destination = [header.u64::<24>(), header.u64::<32>()];
    let payload = packet.skip(IPV6)?;
    if next_header == ICMPV6 {
        let hop_limit = header.u8::<7>();
        neighbor_solicitation(payload, offset, source, hop_limit)
    } else if !group {
        flow(payload, next_header, source, destination)
    } else {
        None
    }
}

#[inline(always)]
fn flow(
    segment: Frame<'_>,
    protocol: u8,
    source: AddressWords,
    destination: AddressWords,
) -> Option<Parsed> {
    let ports = match protocol {
        protocol::TCP => segment.view::<20>()?.u32::<0>(),
        protocol::UDP => segment.view::<8>()?.u32::<0>(),
        _ => return None,
    };
    let ports = u32::from_be(ports);
    Some(Parsed::Flow(Flow {
        source,
        destination,
        source_port: (ports >> 16) as u16,
        destination_port: ports as u16,
        protocol,
    }))
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
    let (kind, code) = (message.u8::<0>(), message.u8::<1>());
    if kind != NEIGHBOR_SOLICITATION || code != 0 || hop_limit != 255 {
        return None;
    }
    Some(Parsed::NeighborSolicitation(NeighborSolicitation {
        offset,
        source,
        target: [message.u64::<8>(), message.u64::<16>()],
    }))
}
