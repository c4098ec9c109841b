//! The least that any balancer does: it finds a packet's ports, and sends the packet on, with an outer header or without.

use aya_ebpf::bindings::xdp_action::XDP_TX;
use lb_common::protocol;
use lb_ebpf::{
    Packet,
    ip_header::{TTL, write_ipv4, write_ipv6},
    parse::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, IPV6},
};

/// The MAC address that packets are sent on to.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The addresses of outer headers.
const OUTER: [[u32; 2]; 2] = [
    [0x0a09_0001_u32.to_be(), 0x0a09_000b_u32.to_be()],
    [0x2001_0db8_u32.to_be(), 0],
];

/// What is found in a packet.
struct Headers {
    is_ipv4: bool,
    /// Of the IP packet.
    length: u16,
    traffic_class: u8,
}

#[inline(always)]
fn parse(packet: &mut impl Packet) -> Option<Headers> {
    let frame = packet.frame();
    let ethernet = frame.view::<ETHERNET>()?;
    let rest = frame.skip(ETHERNET)?;
    let (headers, protocol, rest) = match u16::from_be(ethernet.u16::<12>()) {
        ETHERTYPE_IPV4 => {
            let ip = rest.view::<IPV4>()?;
            let is_plain = ip.u8::<0>() == 0x45 && ip.u16::<6>() & 0x3fff_u16.to_be() == 0;
            let headers = Headers {
                is_ipv4: true,
                length: u16::from_be(ip.u16::<2>()),
                traffic_class: ip.u8::<1>(),
            };
            is_plain.then_some((headers, ip.u8::<9>(), rest.skip(IPV4)?))?
        }
        ETHERTYPE_IPV6 => {
            let ip = rest.view::<IPV6>()?;
            let headers = Headers {
                is_ipv4: false,
                length: u16::from_be(ip.u16::<4>()) + IPV6 as u16,
                traffic_class: (u16::from_be(ip.u16::<0>()) >> 4) as u8,
            };
            (headers, ip.u8::<6>(), rest.skip(IPV6)?)
        }
        _ => return None,
    };
    let ports = rest.view::<4>()?;
    // Without ports there is nobody to send it to.
    let has_ports = matches!(protocol, protocol::TCP | protocol::UDP) && ports.u16::<2>() != 0;
    has_ports.then_some(headers)
}

/// To the sender's MAC address.
#[inline(always)]
pub fn transmit(packet: &mut impl Packet) -> Option<u32> {
    parse(packet)?;
    let ethernet = packet.frame().view::<ETHERNET>()?;
    let [destination, source] = [ethernet.mac::<0>(), ethernet.mac::<6>()];
    ethernet.set_mac::<0>(source);
    ethernet.set_mac::<6>(destination);
    Some(XDP_TX)
}

/// With an outer header of the same family.
#[inline(always)]
pub fn encapsulate(packet: &mut impl Packet) -> Option<u32> {
    let Headers {
        is_ipv4,
        length,
        traffic_class,
    } = parse(packet)?;
    let own = packet.frame().view::<ETHERNET>()?.mac::<0>();
    let bytes = if is_ipv4 { IPV4 } else { IPV6 };
    if !packet.adjust_head(-(bytes as i32)) {
        return None;
    }
    let frame = packet.frame();
    let ethernet = frame.view::<ETHERNET>()?;
    ethernet.set_mac::<0>(MAC);
    ethernet.set_mac::<6>(own);
    let rest = frame.skip(ETHERNET)?;
    if is_ipv4 {
        ethernet.set_u16::<12>(ETHERTYPE_IPV4.to_be());
        let words = [
            u32::from_be(0x4500_0000 | u32::from(traffic_class) << 16)
                | u32::from((length + IPV4 as u16).to_be()) << 16,
            0,
            u32::from_ne_bytes([TTL, protocol::IPV4, 0, 0]),
            OUTER[0][0],
            OUTER[0][1],
        ];
        write_ipv4(rest.view::<IPV4>()?, words);
    } else {
        ethernet.set_u16::<12>(ETHERTYPE_IPV6.to_be());
        let first = 6 << 28 | u32::from(traffic_class) << 20;
        let address = [OUTER[1][0].into(), OUTER[1][1].into()];
        write_ipv6(
            rest.view::<IPV6>()?,
            first,
            length,
            protocol::IPV6,
            address,
            address,
        );
    }
    Some(XDP_TX)
}
