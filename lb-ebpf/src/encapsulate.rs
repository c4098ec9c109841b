//! The outer header of L3 DSR: IP in IP, for each pair of families (RFC 2003, RFC 2473, RFC 4213).
//!
//! The packet of the client stays as it is, its TTL included. Type of service or traffic class is
//! copied, congestion marks with it (RFC 6040, normal mode).

use lb_common::{RealServer, address::AddressWords, protocol};

use crate::{
    ethernet::Tags,
    frame::{Frame, Packet},
    ip_header::{TTL, write_ipv4, write_ipv6},
    parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, IPV6, IpPacket},
};

const DONT_FRAGMENT: u16 = 0x4000;

/// What the outer header takes from the inner one.
struct Inner {
    protocol: u8,
    traffic_class: u8,
    /// IPv4's "don't fragment" or nothing. A router can't fragment IPv6: it must not fragment IPv6 inside of
    /// IPv4 either (RFC 4213 section 3.2.2).
    dont_fragment: u16,
    /// In network byte order.
    identification: u16,
    tags: Tags,
}

impl Inner {
    #[inline(always)]
    fn read(frame: Frame<'_>, ip: &IpPacket) -> Option<Self> {
        let packet = frame.skip(ip.offset())?;
        let tags = Tags::read(frame, ip.offset())?;
        Some(if ip.flow.is_ipv4() {
            let header = packet.view::<IPV4>()?;
            let position = u16::from_be(header.u16::<6>());
            Self {
                protocol: protocol::IPV4,
                traffic_class: header.u8::<1>(),
                dont_fragment: position & DONT_FRAGMENT,
                // The fragments of a datagram have one identification, but each is a datagram outside.
                identification: header.u16::<4>() ^ position,
                tags,
            }
        } else {
            let header = packet.view::<IPV6>()?;
            Self {
                protocol: protocol::IPV6,
                traffic_class: (u16::from_be(header.u16::<0>()) >> 4) as u8,
                dont_fragment: DONT_FRAGMENT,
                identification: 0,
                tags,
            }
        })
    }
}

/// Puts the outer header of a server in front of the packet; the MAC addresses are still to be written. `false` if there
/// is no room.
#[inline(always)]
pub fn encapsulate(
    packet: &mut impl Packet,
    ip: &IpPacket,
    server: &RealServer,
    hash: u64,
) -> bool {
    let Some(inner) = Inner::read(packet.frame(), ip) else {
        return false;
    };
    let written = if server.address.is_ipv4() {
        packet
            .adjust_head(-(IPV4 as i32))
            .then(|| in_ipv4(packet.frame(), ip, server, hash, &inner))
    } else {
        packet
            .adjust_head(-(IPV6 as i32))
            .then(|| in_ipv6(packet.frame(), ip, server, hash, &inner))
    };
    written.flatten().is_some()
}

#[inline(always)]
fn in_ipv4(
    frame: Frame<'_>,
    ip: &IpPacket,
    server: &RealServer,
    hash: u64,
    inner: &Inner,
) -> Option<()> {
    inner.tags.write(frame, ip.offset(), ETHERTYPE_IPV4)?;
    let header = frame.skip(ip.offset())?.view::<IPV4>()?;
    // Where a router may fragment, packets of different clients must not get the same identification.
    let identification = inner.identification ^ (hash >> 48) as u16;
    let words = [
        u32::from_be(0x4500_0000 | u32::from(inner.traffic_class) << 16)
            | u32::from((ip.length as u16 + IPV4 as u16).to_be()) << 16,
        u32::from(identification) | u32::from(inner.dont_fragment.to_be()) << 16,
        u32::from_ne_bytes([TTL, inner.protocol, 0, 0]),
        (outer_source(server, hash)[1] >> 32) as u32,
        (server.address.words()[1] >> 32) as u32,
    ];
    write_ipv4(header, words);
    Some(())
}

#[inline(always)]
fn in_ipv6(
    frame: Frame<'_>,
    ip: &IpPacket,
    server: &RealServer,
    hash: u64,
    inner: &Inner,
) -> Option<()> {
    const VERSION_6: u32 = 6 << 28;
    const FLOW_LABEL: u32 = 0xf_ffff;

    inner.tags.write(frame, ip.offset(), ETHERTYPE_IPV6)?;
    let header = frame.skip(ip.offset())?.view::<IPV6>()?;
    // Routers balance tunnels by the flow label (RFC 6438).
    let flow_label = (hash >> 44) as u32 & FLOW_LABEL;
    let first = VERSION_6 | u32::from(inner.traffic_class) << 20 | flow_label;
    write_ipv6(
        header,
        first,
        ip.length as u16,
        inner.protocol,
        outer_source(server, hash),
        server.address.words(),
    );
    Some(())
}

#[inline(always)]
fn outer_source(server: &RealServer, hash: u64) -> AddressWords {
    let [high, low] = server.outer_source.words();
    let spread = hash as u32 & server.outer_source_spread;
    [high, low | u64::from(spread) << 32]
}
