//! Takes an IP packet out of the IP packet that carries it: IPv4 and IPv6, each in either (RFC 2003, RFC 2473,
//! RFC 4213).
//!
//! ```text
//! Ethernet, up to two tags | outer IPv4 or IPv6 | inner IPv4 or IPv6 | ...
//! Ethernet, up to two tags                      | inner IPv4 or IPv6 | ...
//! ```

use lb_common::{
    Address,
    address::AddressWords,
    decapsulator::{Fate, PassReason},
    protocol,
};

use crate::{
    checksum::{self, Checksum},
    ethernet::Tags,
    frame::{Frame, Packet, View},
    parse::{self, ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, IPV6},
};

/// What the decapsulator knows of the host that it runs on.
pub trait Host {
    /// Whether an address is the host's own.
    fn has_address(&self, address: AddressWords) -> bool;
    /// Whether packets from an outer source are decapsulated.
    fn allows_source(&self, source: AddressWords) -> bool;
}

/// Decapsulates an IP-in-IP packet that was sent to this host; `None` is a packet of another kind, untouched.
/// Only a packet whose fate is [`Fate::Decapsulated`] is changed.
#[inline(always)]
pub fn decapsulate(packet: &mut impl Packet, host: &impl Host) -> Option<Fate> {
    let outer = Outer::parse(packet.frame())?;
    let end = outer.offset + outer.length + outer.payload_length;
    if !packet.reaches(end) || !host.has_address(outer.destination) {
        return None;
    }
    if outer.is_fragment {
        return Some(Fate::Passed(PassReason::OuterFragment));
    }
    if !host.allows_source(outer.source) {
        return Some(Fate::Passed(PassReason::SourceNotAllowed));
    }
    let Some(inner) = Inner::parse(packet.frame(), &outer) else {
        return Some(Fate::Passed(PassReason::MalformedInner));
    };
    if !host.has_address(inner.destination) {
        return Some(Fate::Passed(PassReason::DestinationNotLocal));
    }
    let Some(ecn) = ecn(outer.ecn, inner.ecn) else {
        return Some(Fate::Congested);
    };
    strip(packet, &outer)?;
    if ecn != inner.ecn {
        set_ecn(packet.frame().skip(outer.offset)?, outer.payload, ecn)?;
    }
    Some(Fate::Decapsulated)
}

/// An IP version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl Version {
    /// Of the packets that this IP protocol number says are inside.
    #[inline(always)]
    const fn inside(protocol: u8) -> Option<Self> {
        match protocol {
            protocol::IPV4 => Some(Self::V4),
            protocol::IPV6 => Some(Self::V6),
            _ => None,
        }
    }

    #[inline(always)]
    const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => ETHERTYPE_IPV4,
            Self::V6 => ETHERTYPE_IPV6,
        }
    }
}

/// The two bits of explicit congestion notification (RFC 3168 section 5).
type Ecn = u8;
const NOT_ECT: Ecn = 0b00;
const ECT_1: Ecn = 0b01;
const ECT_0: Ecn = 0b10;
const CE: Ecn = 0b11;

/// The outer header of a whole IP-in-IP packet.
struct Outer {
    source: AddressWords,
    destination: AddressWords,
    ecn: Ecn,
    is_fragment: bool,
    /// What is inside.
    payload: Version,
    /// Bytes in front of the outer header.
    offset: usize,
    /// Bytes of the outer header, with its options.
    length: usize,
    /// Bytes behind the outer header.
    payload_length: usize,
}

impl Outer {
    /// `None` if it is not an IP-in-IP packet, or one that must be rejected.
    #[inline(always)]
    fn parse(frame: Frame<'_>) -> Option<Self> {
        let ethernet = parse::ethernet_header(frame)?;
        if ethernet.is_group {
            return None;
        }
        let offset = ethernet.length;
        let packet = frame.skip(offset)?;
        match ethernet.ethertype {
            ETHERTYPE_IPV4 => Self::ipv4(packet, offset),
            ETHERTYPE_IPV6 => Self::ipv6(packet, offset),
            _ => None,
        }
    }

    #[inline(always)]
    fn ipv4(packet: Frame<'_>, offset: usize) -> Option<Self> {
        const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;

        let header = packet.view::<IPV4>()?;
        let payload = Version::inside(header.u8::<9>())?;
        let length = ipv4_length(header.u8::<0>())?;
        let total_length = usize::from(u16::from_be(header.u16::<2>()));
        if !is_ipv4_checksum_right(packet, length)? {
            return None;
        }
        Some(Self {
            source: Address::ipv4_words(header.u32::<12>()),
            destination: Address::ipv4_words(header.u32::<16>()),
            ecn: header.u8::<1>() & CE,
            is_fragment: u16::from_be(header.u16::<6>()) & MORE_FRAGMENTS_AND_OFFSET != 0,
            payload,
            offset,
            length,
            payload_length: total_length.checked_sub(length)?,
        })
    }

    #[inline(always)]
    fn ipv6(packet: Frame<'_>, offset: usize) -> Option<Self> {
        const FRAGMENT: u8 = 44;
        const DESTINATION_OPTIONS: u8 = 60;
        /// Length of a fragment header, and of the shortest header with destination options.
        const EXTENSION: usize = 8;
        /// No more than 8 bytes, in them first a tunnel encapsulation limit: an option of type 4 with one
        /// byte (RFC 2473 section 4.1.1).
        const TUNNEL_ENCAPSULATION_LIMIT: [u8; 3] = [0, 4, 1];

        let header = packet.view::<IPV6>()?;
        let (version, traffic_class) = ipv6_version_and_traffic_class(header.u16::<0>());
        let behind_length = usize::from(u16::from_be(header.u16::<4>()));
        if version != 6 || ipv6_has_ipv4_address(header) {
            return None;
        }
        let next_header = header.u8::<6>();
        let (protocol, length) = match next_header {
            FRAGMENT | DESTINATION_OPTIONS => {
                let extension = packet.skip(IPV6)?.view::<EXTENSION>()?;
                let options = [
                    extension.u8::<1>(),
                    extension.u8::<2>(),
                    extension.u8::<3>(),
                ];
                if next_header == DESTINATION_OPTIONS && options != TUNNEL_ENCAPSULATION_LIMIT {
                    return None;
                }
                (extension.u8::<0>(), IPV6 + EXTENSION)
            }
            protocol => (protocol, IPV6),
        };
        Some(Self {
            source: [header.u64::<8>(), header.u64::<16>()],
            destination: [header.u64::<24>(), header.u64::<32>()],
            ecn: traffic_class & CE,
            is_fragment: next_header == FRAGMENT,
            payload: Version::inside(protocol)?,
            offset,
            length,
            payload_length: (IPV6 + behind_length).checked_sub(length)?,
        })
    }
}

/// The header of the packet inside.
struct Inner {
    destination: AddressWords,
    ecn: Ecn,
}

impl Inner {
    /// `None` if it is not a whole packet of the right version.
    #[inline(always)]
    fn parse(frame: Frame<'_>, outer: &Outer) -> Option<Self> {
        let packet = frame.skip(outer.offset)?.skip(outer.length)?;
        match outer.payload {
            Version::V4 => {
                let header = packet.view::<IPV4>()?;
                let length = ipv4_length(header.u8::<0>())?;
                let total_length = usize::from(u16::from_be(header.u16::<2>()));
                (length..=outer.payload_length)
                    .contains(&total_length)
                    .then_some(Self {
                        destination: Address::ipv4_words(header.u32::<16>()),
                        ecn: header.u8::<1>() & CE,
                    })
            }
            Version::V6 => {
                let header = packet.view::<IPV6>()?;
                let (version, traffic_class) = ipv6_version_and_traffic_class(header.u16::<0>());
                let behind_length = usize::from(u16::from_be(header.u16::<4>()));
                let is_right = version == 6 && !ipv6_has_ipv4_address(header);
                let is_whole = IPV6 + behind_length <= outer.payload_length;
                (is_right && is_whole).then_some(Self {
                    destination: [header.u64::<24>(), header.u64::<32>()],
                    ecn: traffic_class & CE,
                })
            }
        }
    }
}

/// The length of an IPv4 header in bytes, given its first byte; `None` if it is none.
#[inline(always)]
fn ipv4_length(version_and_length: u8) -> Option<usize> {
    let length = usize::from(version_and_length & 0xf) * 4;
    (version_and_length >> 4 == 4 && length >= IPV4).then_some(length)
}

/// `None` if the header is longer than the packet.
#[inline(always)]
fn is_ipv4_checksum_right(packet: Frame<'_>, length: usize) -> Option<bool> {
    let header = packet.view::<IPV4>()?;
    let mut sum = Checksum::default()
        .add_u64(header.u64::<0>())
        .add_u64(header.u64::<8>())
        .add_u32(header.u32::<16>());
    for option in (IPV4..60).step_by(4) {
        if option >= length {
            break;
        }
        sum = sum.add_u32(packet.skip(option)?.view::<4>()?.u32::<0>());
    }
    Some(sum.finish() == 0)
}

/// Version and traffic class, given the first two bytes of an IPv6 header as they lie in the packet.
#[inline(always)]
const fn ipv6_version_and_traffic_class(loaded: u16) -> (u8, u8) {
    let bits = u16::from_be(loaded);
    ((bits >> 12) as u8, (bits >> 4) as u8)
}

/// Whether source or destination is an IPv4 address mapped into IPv6. These have no place on the wire of IPv6, and must not be
/// taken for those of IPv4: the host would forward to one what it was for itself, and hear another that it doesn't.
#[inline(always)]
fn ipv6_has_ipv4_address(header: View<'_, IPV6>) -> bool {
    Address::words_are_ipv4([header.u64::<8>(), header.u64::<16>()])
        || Address::words_are_ipv4([header.u64::<24>(), header.u64::<32>()])
}

/// The congestion notification that the packet gets on its way out (RFC 6040 section 4.2, figure 4); `None` if it
/// must be dropped.
#[inline(always)]
const fn ecn(outer: Ecn, inner: Ecn) -> Option<Ecn> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        _ => Some(inner),
    }
}

/// Takes the outer header off. `None` if that can't be: then nothing changed.
#[inline(always)]
fn strip(packet: &mut impl Packet, outer: &Outer) -> Option<()> {
    let tags = Tags::read(packet, outer.offset)?;
    let header = packet.frame().view::<ETHERNET>()?;
    let (destination, source) = (header.mac::<0>(), header.mac::<6>());
    if !packet.adjust_head(outer.length as i32) {
        return None;
    }
    let frame = packet.frame();
    let header = frame.view::<ETHERNET>()?;
    header.set_mac::<0>(destination);
    header.set_mac::<6>(source);
    tags.write(frame, outer.offset, outer.payload.ethertype())
}

/// Changes the congestion notification of an IP header.
#[inline(always)]
fn set_ecn(packet: Frame<'_>, version: Version, ecn: Ecn) -> Option<()> {
    match version {
        Version::V4 => {
            let header = packet.view::<IPV4>()?;
            let before = header.u16::<0>();
            header.set_u8::<1>(header.u8::<1>() & !CE | ecn);
            let checksum = checksum::update(header.u16::<10>(), before, header.u16::<0>());
            header.set_u16::<10>(checksum);
        }
        Version::V6 => {
            let header = packet.view::<IPV6>()?;
            header.set_u8::<1>(header.u8::<1>() & !(CE << 4) | ecn << 4);
        }
    }
    Some(())
}
