//! What is not for a virtual server passes, byte for byte.

use etherparse::{EtherType, IpNumber, ether_type, ip_number};

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{
        BROADCAST, Family, Flow, SHORTEST, STRANGER_MAC, Segment, datagram, ip, padded, to_balancer,
    },
};

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(every_flow).collect();
    cases.extend(Family::ALL.into_iter().flat_map(other_protocols));
    cases.extend(other_ethertypes());
    cases.extend(tiny());
    cases
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let family = flow.family;
    let to = |destination_mac| near.with(|it| it.destination_mac = destination_mac);
    let multicast_mac = match family {
        Family::V4 => [0x01, 0x00, 0x5e, 9, 1, 1],
        Family::V6 => [0x33, 0x33, 0, 0, 0, 1],
    };
    vec![
        Case::segment_passed(
            "to another address",
            &Segment::between(flow, family.stranger(), 80),
        ),
        Case::segment_passed("from a VIP to a client", &near.reversed()),
        Case::segment_passed("a broadcast frame", &to(BROADCAST)),
        Case::segment_passed("a multicast frame", &to(multicast_mac)),
        Case::segment_passed(
            "another station's frame for another address",
            &Segment::between(flow, family.stranger(), 80)
                .with(|it| it.destination_mac = STRANGER_MAC),
        ),
    ]
}

/// Protocols that no virtual server has, to a VIP and to another address.
fn other_protocols(family: Family) -> Vec<Case> {
    const NAMES: [(&str, IpNumber); 12] = [
        ("IPv4 in IP", ip_number::IPV4),
        ("IPv6 in IP", ip_number::IPV6),
        ("GRE", ip_number::GRE),
        ("ESP", ip_number::ENCAPSULATING_SECURITY_PAYLOAD),
        ("AH", ip_number::AUTHENTICATION_HEADER),
        ("SCTP", ip_number::SCTP),
        ("DCCP", ip_number::DCCP),
        ("UDP-Lite", ip_number::UDP_LITE),
        ("OSPF", ip_number::OSPFIGP),
        ("VRRP", ip_number::VRRP),
        ("protocol 253", IpNumber(253)),
        ("protocol 255", IpNumber(255)),
    ];
    // What would be a packet of a virtual server, were it not inside another.
    let inner: Vec<u8> = Flow::over(family)
        .next()
        .map(|flow| Segment::to(flow, &NEAR, 80).frame().split_off(14))
        .expect("a flow");
    let places = [
        ("a VIP", NEAR.vip(family)),
        ("another address", family.stranger()),
    ];
    NAMES
        .into_iter()
        .flat_map(|protocol| places.map(|place| (protocol, place)))
        .map(|((name, protocol), (place, destination))| {
            let packet = datagram(ip(family.client(), destination, 64), protocol, &inner);
            let frame = to_balancer(family.ether_type(), &packet);
            Case::passed(format!("{name} over {family} to {place}"), frame)
        })
        .collect()
}

fn other_ethertypes() -> Vec<Case> {
    let flow = Flow::all().next().expect("a flow");
    let packet = Segment::to(flow, &NEAR, 80).frame().split_off(14);
    [
        ("Wake-on-LAN", 0x0842),
        ("RARP", 0x8035),
        ("802.1Q of a past draft", 0x9100),
        ("MPLS", 0x8847),
        ("PPPoE", 0x8864),
        ("MACsec", 0x88e5),
        ("LLDP", 0x88cc),
        ("an 802.3 length", 46),
        ("type 0", 0),
        ("type 0xffff", 0xffff),
    ]
    .into_iter()
    .map(|(name, ether_type)| Case::passed(name, to_balancer(EtherType(ether_type), &packet)))
    .collect()
}

/// Hardly frames.
fn tiny() -> Vec<Case> {
    let zeros = |length| Case::passed(format!("{length} zeros"), vec![0; length]);
    let ones = |length| Case::passed(format!("{length} bytes of ones"), vec![0xff; length]);
    let mut cases: Vec<Case> = [0, 1, 13, 14, 15, 20, SHORTEST].map(zeros).into();
    cases.extend([1, 13, 14, 15, 20, SHORTEST].map(ones));
    for ether_type in [ether_type::IPV4, ether_type::IPV6, ether_type::ARP] {
        let header = to_balancer(ether_type, &[]);
        let padded = padded(header.clone(), SHORTEST);
        cases.push(Case::passed(
            format!("a bare header of {ether_type:?}"),
            header,
        ));
        cases.push(Case::passed(
            format!("a padded header of {ether_type:?}"),
            padded,
        ));
    }
    cases
}
