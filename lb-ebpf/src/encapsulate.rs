//! The outer header of L3 DSR: IP in IP, for each pair of families (RFC 2003, RFC 2473, RFC 4213).
//!
//! The packet of the client stays as it is, its TTL included. Type of service or traffic class is
//! copied, congestion marks with it (RFC 6040, normal mode).

use lb_common::{RealServer, protocol, real_server::OUTER_V4};

use crate::{
    ethernet::Tags,
    frame::{Frame, Packet, View, opaque},
    ip_header::{TTL, write_ipv4, write_ipv6},
    parse::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Fragment, IPV4, IPV6, IpPacket},
};

/// What the outer header takes from the inner one.
struct Inner {
    protocol: u8,
    traffic_class: u8,
    /// Version, header length, type of service and total length for an outer header of IPv4, as they lie there.
    first: u32,
    /// Identification and "don't fragment" for an outer header of IPv4, as they lie there.
    fragmentation: u32,
}

impl Inner {
    const DONT_FRAGMENT: u32 = u32::from_be(0x4000);
    /// Version and header length.
    const WITHOUT_OPTIONS: u32 = 0x4500_0000;

    #[inline(always)]
    fn ipv4(header: View<'_, IPV4>, ip: &IpPacket) -> Self {
        let first = u32::from_be(header.u32::<0>());
        // Of a plain packet it is known when this is compiled, and there is nothing to mask.
        let without_options = match ip.header_length() {
            IPV4 => first,
            _ => first & 0x00ff_ffff | Self::WITHOUT_OPTIONS,
        };
        // The fragments of a datagram have one identification, but each is a datagram outside: its place makes the difference.
        let word = header.u32::<4>();
        let identification = match ip.fragment {
            Fragment::Whole => word,
            Fragment::First | Fragment::Later => word ^ word >> 16,
        };
        Self {
            protocol: protocol::IPV4,
            traffic_class: header.u8::<1>(),
            first: (without_options + OUTER_V4).to_be(),
            fragmentation: word & Self::DONT_FRAGMENT | identification & 0xffff,
        }
    }

    #[inline(always)]
    fn ipv6(header: View<'_, IPV6>, ip: &IpPacket) -> Self {
        let traffic_class = (u16::from_be(header.u16::<0>()) >> 4) as u8;
        let type_of_service = u32::from(traffic_class) << 16;
        Self {
            protocol: protocol::IPV6,
            traffic_class,
            first: (Self::WITHOUT_OPTIONS + type_of_service + ip.length + OUTER_V4).to_be(),
            // A router can't fragment IPv6: it must not fragment IPv6 inside of IPv4 either (RFC 4213 section 3.2.2).
            fragmentation: Self::DONT_FRAGMENT,
        }
    }
}

/// Puts the outer header of a server in front of the packet: the Ethernet header, where the MAC addresses are still to be
/// written. `None` if there is no room. With the outer header the packet has [`MOST_MTU`](lb_common::real_server::MOST_MTU) bytes at most.
#[inline(always)]
pub fn encapsulate<'packet>(
    packet: &'packet mut impl Packet,
    ip: &IpPacket,
    server: &RealServer,
    hash: u64,
) -> Option<View<'packet, ETHERNET>> {
    let tags = Tags::read(packet, ip.offset())?;
    if server.outer_header == OUTER_V4 {
        if !packet.adjust_head(-(IPV4 as i32)) {
            return None;
        }
        let (ethernet, header, inner) = headers(packet.frame(), ip, tags, ETHERTYPE_IPV4)?;
        in_ipv4(header, server, hash, &inner);
        Some(ethernet)
    } else {
        if !packet.adjust_head(-(IPV6 as i32)) {
            return None;
        }
        let (ethernet, header, inner) = headers(packet.frame(), ip, tags, ETHERTYPE_IPV6)?;
        in_ipv6(header, ip, server, hash, &inner);
        Some(ethernet)
    }
}

/// The new Ethernet header, with tags as they were; the place of an outer header of this EtherType; and what is in the
/// inner one.
#[inline(always)]
fn headers<'packet, const OUTER: usize>(
    frame: Frame<'packet>,
    ip: &IpPacket,
    tags: Tags,
    ethertype: u16,
) -> Option<(View<'packet, ETHERNET>, View<'packet, OUTER>, Inner)> {
    if ip.flow.is_ipv4() {
        let (ethernet, outer, inner) = places(frame, ip, tags, ethertype)?;
        Some((ethernet, outer, Inner::ipv4(inner, ip)))
    } else {
        let (ethernet, outer, inner) = places(frame, ip, tags, ethertype)?;
        Some((ethernet, outer, Inner::ipv6(inner, ip)))
    }
}

/// As [`headers`], with the inner one as it lies there.
#[inline(always)]
fn places<'packet, const OUTER: usize, const INNER: usize>(
    frame: Frame<'packet>,
    ip: &IpPacket,
    tags: Tags,
    ethertype: u16,
) -> Option<(
    View<'packet, ETHERNET>,
    View<'packet, OUTER>,
    View<'packet, INNER>,
)> {
    if ip.offset() == ETHERNET {
        let (ethernet, outer, inner) = frame.views()?;
        ethernet.set_u16::<12>(ethertype.to_be());
        return Some((ethernet, outer, inner));
    }
    tags.write(frame, ip.offset(), ethertype)?;
    let (outer, inner, _) = frame.skip(ip.offset())?.views::<OUTER, INNER, 0>()?;
    Some((frame.view()?, outer, inner))
}

#[inline(always)]
fn in_ipv4(header: View<'_, IPV4>, server: &RealServer, hash: u64, inner: &Inner) {
    let words = [
        inner.first,
        // Where a router may fragment, packets of different clients must not get the same identification.
        inner.fragmentation ^ u32::from(hash as u16),
        u32::from_ne_bytes([TTL, inner.protocol, 0, 0]),
        server.outer_source.ipv4_loaded() | spread(server, hash),
        server.address.ipv4_loaded(),
    ];
    write_ipv4(header, words);
}

#[inline(always)]
fn in_ipv6(header: View<'_, IPV6>, ip: &IpPacket, server: &RealServer, hash: u64, inner: &Inner) {
    const VERSION_6: u32 = 6 << 28;
    const FLOW_LABEL: u32 = 0xf_ffff;

    // Routers balance tunnels by the flow label (RFC 6438).
    let flow_label = hash as u32 & FLOW_LABEL;
    let [high, low] = server.outer_source.words();
    let first = VERSION_6 | u32::from(inner.traffic_class) << 20 | flow_label;
    write_ipv6(
        header,
        first,
        // The compiler would keep the length as it lies in an inner header of IPv4, for this alone.
        opaque(ip.length.into()) as u16,
        inner.protocol,
        [high, low | u64::from(spread(server, hash)) << 32],
        server.address.words(),
    );
}

/// What the hash of the flow sets in the last four bytes of the source address.
#[inline(always)]
const fn spread(server: &RealServer, hash: u64) -> u32 {
    hash as u32 & server.outer_source_spread
}
