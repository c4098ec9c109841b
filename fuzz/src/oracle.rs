//! Whether a frame is well-formed, by etherparse's strict parser and its checksums.

use std::fmt::Display;

use etherparse::{
    ArpOperation, Icmpv4Type, Icmpv6Type, Ipv4HeaderSlice, NetSlice, SlicedPacket, TransportSlice,
    checksum::Sum16BitWords, ip_number,
};

/// Parses every header strictly and verifies every checksum, also in a packet inside another.
pub fn check(frame: &[u8]) -> Result<(), String> {
    check_packet(SlicedPacket::from_ethernet(frame))
}

fn check_packet<E: Display>(packet: Result<SlicedPacket<'_>, E>) -> Result<(), String> {
    let packet = packet.map_err(|error| error.to_string())?;
    if let Some(NetSlice::Ipv4(ip)) = &packet.net {
        ipv4_header(&ip.header())?;
    }
    if let Some(payload) = packet.net.as_ref().and_then(NetSlice::ip_payload_ref)
        && [ip_number::IPV4, ip_number::IPV6].contains(&payload.ip_number)
        && !payload.fragmented
    {
        return check_packet(SlicedPacket::from_ip(payload.payload));
    }
    transport(&packet)
}

/// Whether the frame is an ARP reply, a neighbour advertisement or an echo reply.
pub fn is_answer(frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    match (&packet.net, &packet.transport) {
        (Some(NetSlice::Arp(arp)), _) => arp.operation() == ArpOperation::REPLY,
        (_, Some(TransportSlice::Icmpv6(icmp))) => {
            use Icmpv6Type::{EchoReply, NeighborAdvertisement};
            matches!(icmp.icmp_type(), EchoReply(_) | NeighborAdvertisement(_))
        }
        (_, Some(TransportSlice::Icmpv4(icmp))) => {
            matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(_))
        }
        _ => false,
    }
}

fn ipv4_header(header: &Ipv4HeaderSlice<'_>) -> Result<(), String> {
    let right = header.to_header().calc_header_checksum();
    expect("IPv4 header", header.header_checksum(), right)
}

fn transport(packet: &SlicedPacket<'_>) -> Result<(), String> {
    let Some(transport) = &packet.transport else {
        return Ok(());
    };
    let right = match (&packet.net, transport) {
        (Some(NetSlice::Ipv4(_)), TransportSlice::Udp(udp)) if udp.checksum() == 0 => Ok(0),
        (Some(NetSlice::Ipv4(ip)), transport) => {
            let [source, destination] = [ip.header().source(), ip.header().destination()];
            match transport {
                TransportSlice::Tcp(tcp) => tcp.calc_checksum_ipv4(source, destination),
                TransportSlice::Udp(udp) => {
                    let header = udp.to_header();
                    header.calc_checksum_ipv4_raw(source, destination, udp.payload())
                }
                // The typed headers forget what stands in unused fields.
                TransportSlice::Icmpv4(icmp) => {
                    let sum = Sum16BitWords::new().add_slice(icmp.slice());
                    // Over all that it covers, itself included (RFC 1071 section 1).
                    return valid("ICMP", sum.ones_complement() == 0);
                }
                _ => return Ok(()),
            }
        }
        (Some(NetSlice::Ipv6(ip)), transport) => {
            let [source, destination] = [ip.header().source(), ip.header().destination()];
            match transport {
                TransportSlice::Tcp(tcp) => tcp.calc_checksum_ipv6(source, destination),
                TransportSlice::Udp(udp) => {
                    let header = udp.to_header();
                    header.calc_checksum_ipv6_raw(source, destination, udp.payload())
                }
                TransportSlice::Icmpv6(icmp) => {
                    return valid("ICMPv6", icmp.is_checksum_valid(source, destination));
                }
                _ => return Ok(()),
            }
        }
        _ => return Ok(()),
    }
    .map_err(|error| error.to_string())?;
    let (what, found) = match transport {
        TransportSlice::Tcp(tcp) => ("TCP", tcp.checksum()),
        TransportSlice::Udp(udp) => ("UDP", udp.checksum()),
        _ => return Ok(()),
    };
    expect(what, found, right)
}

fn valid(what: &str, is_valid: bool) -> Result<(), String> {
    let wrong = || format!("the {what} checksum is wrong");
    is_valid.then_some(()).ok_or_else(wrong)
}

fn expect(what: &str, found: u16, right: u16) -> Result<(), String> {
    if found == right {
        return Ok(());
    }
    Err(format!(
        "the {what} checksum is {found:#06x}, not {right:#06x}"
    ))
}
