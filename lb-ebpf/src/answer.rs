//! Answers to who asks for a VIP's MAC address, or pings the VIP. The kernel does not know the VIP, so
//! the program answers in its place: with the MAC address of the interface that the question came in by.

use lb_common::{Address, DropReason, TracedPacket};

use crate::{
    Verdict,
    checksum::{self, Checksum},
    ethernet, find,
    frame::{Frame, Packet},
    ip_header::TTL,
    parse::{
        ArpRequest, ETHERNET, EchoRequest, Flow, ICMP, ICMPV4, ICMPV6, IPV4, IPV6,
        NEIGHBOR_MESSAGE, NeighborSolicitation,
    },
    protect,
    tables::State,
    trace,
};

/// Turns an ARP request for a VIP into the reply (RFC 826).
#[inline(always)]
pub fn arp(packet: &mut impl Packet, tables: &impl State, request: ArpRequest) -> Verdict {
    const REPLY: u16 = u16::from_be(2);

    let ifindex = packet.ingress_ifindex();
    let answered = (|| {
        find::vip(tables, request.target)?;
        let mac = ethernet::mac(tables, ifindex)?;
        let frame = packet.frame();
        let ethernet = frame.view::<ETHERNET>()?;
        let arp = frame.skip(request.offset)?.view::<28>()?;
        let (asker_mac, asker_ip, vip) = (arp.mac::<8>(), arp.u32::<14>(), arp.u32::<24>());
        let asker = Address::ipv4_words(asker_ip);
        trace::question(tables, TracedPacket::Arp, asker, request.target);
        arp.set_u16::<6>(REPLY);
        arp.set_mac::<8>(mac);
        arp.set_u32::<14>(vip);
        arp.set_mac::<18>(asker_mac);
        arp.set_u32::<24>(asker_ip);
        ethernet.set_mac::<0>(ethernet.mac::<6>());
        ethernet.set_mac::<6>(mac);
        Some(())
    })();
    answered.map_or(Verdict::Pass, |()| Verdict::Transmit)
}

/// Turns a neighbour solicitation for a VIP into the advertisement (RFC 4861 section 7.2.4).
#[inline(always)]
pub fn neighbor_solicitation(
    packet: &mut impl Packet,
    tables: &impl State,
    solicitation: NeighborSolicitation,
) -> Verdict {
    const OPTION: usize = 8;
    let ifindex = packet.ingress_ifindex();
    let answered = (|| {
        find::vip(tables, solicitation.target)?;
        let mac = ethernet::mac(tables, ifindex)?;
        let NeighborSolicitation { source, target, .. } = solicitation;
        trace::question(tables, TracedPacket::NeighborSolicitation, source, target);
        let length = solicitation.offset + IPV6 + NEIGHBOR_MESSAGE + OPTION;
        let excess = length as i32 - packet.frame().len() as i32;
        if excess != 0 && !packet.adjust_tail(excess) {
            return None;
        }
        advertise(packet, solicitation, mac)
    })();
    answered.map_or(Verdict::Pass, |()| Verdict::Transmit)
}

/// Writes the advertisement over a frame of the right length, addresses kept.
///
/// ```text
/// +---------------+---------------+-------------------------------+
/// |  type = 136   |   code = 0    |           checksum            |  0
/// +-+-+-+---------+---------------+-------------------------------+
/// |R|S|O|                       reserved                          |  4
/// +-+-+-+---------------------------------------------------------+
/// |                     target address (16)                       |  8
/// +---------------+---------------+-------------------------------+
/// |   type = 2    |  length = 1   |      link-layer address       | 24
/// +---------------+---------------+-------------------------------+
/// ```
#[inline(always)]
fn advertise(
    packet: &mut impl Packet,
    solicitation: NeighborSolicitation,
    mac: [u8; 6],
) -> Option<()> {
    const ADVERTISEMENT: u32 = u32::from_be(136 << 24);
    const SOLICITED: u32 = u32::from_be(0x4000_0000);
    const OVERRIDE: u32 = u32::from_be(0x2000_0000);
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    const PAYLOAD: u16 = 32;
    const ALL_NODES: [u64; 2] = [u64::from_be(0xff02 << 48), u64::from_be(1)];
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

    let frame = packet.frame();
    let ethernet = frame.view::<ETHERNET>()?;
    let payload = frame.skip(solicitation.offset)?;
    let ip = payload.view::<IPV6>()?;
    let icmp = payload.skip(IPV6)?.view::<{ PAYLOAD as usize }>()?;

    let detects_duplicate = solicitation.source == [0, 0];
    let (destination, destination_mac, flags) = if detects_duplicate {
        (ALL_NODES, ALL_NODES_MAC, OVERRIDE)
    } else {
        (
            solicitation.source,
            ethernet.mac::<6>(),
            SOLICITED | OVERRIDE,
        )
    };
    let [a, b, c, d, e, f] = mac;
    let [two, one] = TARGET_LINK_LAYER_ADDRESS;
    let option = u64::from_ne_bytes([two, one, a, b, c, d, e, f]);
    let target = solicitation.target;

    ethernet.set_mac::<0>(destination_mac);
    ethernet.set_mac::<6>(mac);
    ip.set_u16::<4>(PAYLOAD.to_be());
    ip.set_u8::<6>(ICMPV6);
    ip.set_u8::<7>(255);
    ip.set_u64::<8>(target[0]);
    ip.set_u64::<16>(target[1]);
    ip.set_u64::<24>(destination[0]);
    ip.set_u64::<32>(destination[1]);
    icmp.set_u32::<0>(ADVERTISEMENT);
    icmp.set_u32::<4>(flags);
    icmp.set_u64::<8>(target[0]);
    icmp.set_u64::<16>(target[1]);
    icmp.set_u64::<24>(option);
    let checksum = Checksum::default()
        .add_u64(target[0])
        .add_u64(target[1])
        .add_u64(destination[0])
        .add_u64(destination[1])
        .add_u32(u32::from(PAYLOAD).to_be())
        .add_u32(u32::from(ICMPV6).to_be())
        .add_u32(ADVERTISEMENT)
        .add_u32(flags)
        .add_u64(target[0])
        .add_u64(target[1])
        .add_u64(option)
        .finish();
    icmp.set_u16::<2>(checksum);
    Some(())
}

/// Turns an echo request to a VIP into the reply (RFC 792, RFC 4443 section 4.2), while a virtual server of
/// the VIP is up. A frame for another station is left alone.
#[inline(always)]
pub fn echo(packet: &mut impl Packet, tables: &impl State, request: EchoRequest) -> Verdict {
    let Some(vip) = find::vip(tables, request.destination) else {
        return Verdict::Pass;
    };
    if !ethernet::is_for_us(packet, tables) {
        return Verdict::Pass;
    }
    let EchoRequest {
        source,
        destination,
        ..
    } = request;
    trace::question(tables, TracedPacket::Echo, source, destination);
    let flow = Flow {
        source: request.source,
        destination: request.destination,
        source_port: 0,
        destination_port: 0,
        protocol: ICMPV4,
    };
    if protect::is_martian(&flow) {
        return Verdict::Drop(DropReason::MartianSource);
    }
    if vip.up == 0 {
        return Verdict::Drop(DropReason::NoRealServer);
    }
    reply(packet.frame(), &request).map_or(Verdict::Pass, |()| Verdict::Transmit)
}

#[inline(always)]
fn reply(frame: Frame<'_>, request: &EchoRequest) -> Option<()> {
    const REQUEST_V4: u16 = u16::from_ne_bytes([8, 0]);
    const REPLY_V4: u16 = u16::from_ne_bytes([0, 0]);
    const REQUEST_V6: u16 = u16::from_ne_bytes([128, 0]);
    const REPLY_V6: u16 = u16::from_ne_bytes([129, 0]);

    let ethernet = frame.view::<ETHERNET>()?;
    let ours = ethernet.mac::<0>();
    let ip = frame.skip(request.offset)?;
    let icmp = frame.skip(request.icmp_offset)?.view::<ICMP>()?;
    let (asked, replied) = if Address::words_are_ipv4(request.destination) {
        let header = ip.view::<IPV4>()?;
        let (asker, vip) = (header.u32::<12>(), header.u32::<16>());
        let old = header.u16::<8>();
        header.set_u8::<8>(TTL);
        let checksum = checksum::update(header.u16::<10>(), old, header.u16::<8>());
        header.set_u16::<10>(checksum);
        header.set_u32::<12>(vip);
        header.set_u32::<16>(asker);
        (REQUEST_V4, REPLY_V4)
    } else {
        let header = ip.view::<IPV6>()?;
        header.set_u8::<7>(TTL);
        header.set_u64::<8>(request.destination[0]);
        header.set_u64::<16>(request.destination[1]);
        header.set_u64::<24>(request.source[0]);
        header.set_u64::<32>(request.source[1]);
        (REQUEST_V6, REPLY_V6)
    };
    icmp.set_u16::<0>(replied);
    icmp.set_u16::<2>(checksum::update(icmp.u16::<2>(), asked, replied));
    ethernet.set_mac::<0>(ethernet.mac::<6>());
    ethernet.set_mac::<6>(ours);
    Some(())
}
