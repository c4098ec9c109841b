//! Whether a frame is well-formed, by etherparse's strict parser and its checksums.

use etherparse::{
    ArpOperation, Icmpv6Type, Ipv4HeaderSlice, NetSlice, SlicedPacket, TransportSlice,
};

/// Parses every header strictly and verifies every checksum.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    if let Some(NetSlice::Ipv4(ip)) = &packet.net {
        ipv4_header(&ip.header())?;
    }
    transport(&packet)
}

/// Whether the frame tells who has an address: an ARP reply or a neighbour advertisement.
pub fn is_answer(frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    match (&packet.net, &packet.transport) {
        (Some(NetSlice::Arp(arp)), _) => arp.operation() == ArpOperation::REPLY,
        (_, Some(TransportSlice::Icmpv6(icmp))) => {
            matches!(icmp.icmp_type(), Icmpv6Type::NeighborAdvertisement(_))
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
                TransportSlice::Icmpv4(icmp) => Ok(icmp.icmp_type().calc_checksum(icmp.payload())),
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
                    let payload = icmp.payload();
                    icmp.icmp_type().calc_checksum(source, destination, payload)
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
        TransportSlice::Icmpv4(icmp) => ("ICMP", icmp.checksum()),
        TransportSlice::Icmpv6(icmp) => ("ICMPv6", icmp.checksum()),
        _ => return Ok(()),
    };
    expect(what, found, right)
}

fn expect(what: &str, found: u16, right: u16) -> Result<(), String> {
    if found == right {
        return Ok(());
    }
    Err(format!(
        "the {what} checksum is {found:#06x}, not {right:#06x}"
    ))
}
