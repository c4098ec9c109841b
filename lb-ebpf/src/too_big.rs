//! Tells a client that its packet does not fit, and what would: path MTU discovery (RFC 1191, RFC 8201).
//!
//! The error comes from the VIP, so that it passes what lets the answers of the VIP pass. A packet that
//! may be fragmented gets it, too: nothing here could send more than one packet for one.

use lb_common::DropReason;

use crate::{
    Verdict,
    checksum::Checksum,
    ethernet::Tags,
    frame::{Frame, Packet},
    ip_header::{TTL, write_ipv4, write_ipv6},
    parse::{
        ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Fragment, ICMP, ICMPV4, ICMPV6, IPV4, IPV6,
        IpPacket,
    },
    tables::State,
};

/// As much of the packet as fits in 576 bytes (RFC 1812 section 4.3.2.3), in eights. A packet that is too big is
/// longer: no MTU is below [`lb_common::real_server::LEAST_MTU_V4`].
const QUOTE_V4: usize = 544;
/// As much of the packet as fits in 1280 bytes (RFC 4443 section 3.2). No MTU is below 1280.
const QUOTE_V6: usize = 1232;

/// Turns a packet that is longer than `mtu` into the ICMP error that says so.
#[inline(always)]
pub fn answer(packet: &mut impl Packet, tables: &impl State, ip: &IpPacket, mtu: u32) -> Verdict {
    let silent = ip.icmp_error || matches!(ip.fragment, Fragment::Later);
    if silent || !tables.may_send_error() {
        return Verdict::Drop(DropReason::TooBigUnanswered);
    }
    let done = if ip.flow.is_ipv4() {
        make_room(packet, ip, QUOTE_V4, IPV4 + ICMP)
            .and_then(|ethernet| fragmentation_needed(packet.frame(), ip, mtu, ethernet))
    } else {
        make_room(packet, ip, QUOTE_V6, IPV6 + ICMP)
            .and_then(|ethernet| packet_too_big(packet.frame(), ip, mtu, ethernet))
    };
    match done {
        Some(()) => {
            tables.count_drop(DropReason::TooBig);
            Verdict::Transmit
        }
        None => Verdict::Drop(DropReason::TooBigUnanswered),
    }
}

/// What the new Ethernet header takes from the old one.
struct Ethernet {
    client: [u8; 6],
    ours: [u8; 6],
    tags: Tags,
}

/// Cuts the packet down to `quote` bytes and makes room for `headers` in front of them.
#[inline(always)]
fn make_room(
    packet: &mut impl Packet,
    ip: &IpPacket,
    quote: usize,
    headers: usize,
) -> Option<Ethernet> {
    let tags = Tags::read(packet, ip.offset())?;
    let header = packet.frame().view::<ETHERNET>()?;
    let ethernet = Ethernet {
        client: header.mac::<6>(),
        ours: header.mac::<0>(),
        tags,
    };
    let excess = (ip.offset() + quote) as i32 - packet.len() as i32;
    (packet.adjust_tail(excess) && packet.adjust_head(-(headers as i32))).then_some(ethernet)
}

impl Ethernet {
    #[inline(always)]
    fn write(self, frame: Frame<'_>, offset: usize, ethertype: u16) -> Option<()> {
        let header = frame.view::<ETHERNET>()?;
        header.set_mac::<0>(self.client);
        header.set_mac::<6>(self.ours);
        self.tags.write(frame, offset, ethertype)
    }
}

/// ```text
/// +---------------+---------------+-------------------------------+
/// |   type = 3    |   code = 4    |           checksum            |
/// +---------------+---------------+-------------------------------+
/// |            unused             |         next-hop MTU          |
/// +-------------------------------+-------------------------------+
/// ```
#[inline(always)]
fn fragmentation_needed(
    frame: Frame<'_>,
    ip: &IpPacket,
    mtu: u32,
    ethernet: Ethernet,
) -> Option<()> {
    const LENGTH: u16 = (IPV4 + ICMP + QUOTE_V4) as u16;
    /// Internetwork control (RFC 1812 section 4.3.2.5).
    const TYPE_OF_SERVICE: u8 = 0xc0;
    const DONT_FRAGMENT: u32 = u32::from_be(0x4000);
    const FRAGMENTATION_NEEDED: u32 = u32::from_ne_bytes([3, 4, 0, 0]);

    ethernet.write(frame, ip.offset(), ETHERTYPE_IPV4)?;
    let packet = frame.skip(ip.offset())?;
    let [length_high, length_low] = LENGTH.to_be_bytes();
    let words = [
        u32::from_ne_bytes([0x45, TYPE_OF_SERVICE, length_high, length_low]),
        DONT_FRAGMENT,
        u32::from_ne_bytes([TTL, ICMPV4, 0, 0]),
        (ip.flow.destination[1] >> 32) as u32,
        (ip.flow.source[1] >> 32) as u32,
    ];
    write_ipv4(packet.view::<IPV4>()?, words);

    let message = packet.skip(IPV4)?;
    let quote = message.skip_to(ICMP)?.view::<QUOTE_V4>()?;
    let mtu = mtu.to_be();
    let checksum = Checksum::default()
        .add_u32(FRAGMENTATION_NEEDED)
        .add_u32(mtu);
    let checksum = quote.add_to(checksum).finish();
    let message = message.view::<ICMP>()?;
    message.set_u32::<0>(FRAGMENTATION_NEEDED | u32::from(checksum) << 16);
    message.set_u32::<4>(mtu);
    Some(())
}

/// ```text
/// +---------------+---------------+-------------------------------+
/// |   type = 2    |   code = 0    |           checksum            |
/// +---------------+---------------+-------------------------------+
/// |                              MTU                              |
/// +---------------------------------------------------------------+
/// ```
#[inline(always)]
fn packet_too_big(frame: Frame<'_>, ip: &IpPacket, mtu: u32, ethernet: Ethernet) -> Option<()> {
    const VERSION_6: u32 = 6 << 28;
    const LENGTH: u16 = (ICMP + QUOTE_V6) as u16;
    const PACKET_TOO_BIG: u32 = u32::from_ne_bytes([2, 0, 0, 0]);

    ethernet.write(frame, ip.offset(), ETHERTYPE_IPV6)?;
    let packet = frame.skip(ip.offset())?;
    let (source, destination) = (ip.flow.destination, ip.flow.source);
    let header = packet.view::<IPV6>()?;
    write_ipv6(header, VERSION_6, LENGTH, ICMPV6, source, destination);

    let message = packet.skip(IPV6)?;
    let quote = message.skip_to(ICMP)?.view::<QUOTE_V6>()?;
    let mtu = mtu.to_be();
    let checksum = Checksum::default()
        .add_u64(source[0])
        .add_u64(source[1])
        .add_u64(destination[0])
        .add_u64(destination[1])
        .add_u32(u32::from(LENGTH).to_be())
        .add_u32(u32::from(ICMPV6).to_be())
        .add_u32(PACKET_TOO_BIG)
        .add_u32(mtu);
    let checksum = quote.add_to(checksum).finish();
    let message = message.view::<ICMP>()?;
    message.set_u32::<0>(PACKET_TOO_BIG | u32::from(checksum) << 16);
    message.set_u32::<4>(mtu);
    Some(())
}
