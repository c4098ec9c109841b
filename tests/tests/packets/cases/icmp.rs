//! ICMP and ICMPv6 but for neighbour discovery pass.

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{Family, Flow, Segment, ip, to_balancer},
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        cases.extend(messages(family, "a VIP", NEAR.vip(family)));
        cases.extend(messages(family, "another address", family.stranger()));
    }
    cases
}

fn messages(family: Family, place: &str, destination: std::net::IpAddr) -> Vec<Case> {
    let echo = IcmpEchoHeader { id: 7, seq: 1 };
    let ping = b"what ping sends".to_vec();
    let mut contents = vec![
        (
            "echo request".to_owned(),
            Icmpv4Type::EchoRequest(echo),
            Icmpv6Type::EchoRequest(echo),
            ping.clone(),
        ),
        (
            "echo reply".to_owned(),
            Icmpv4Type::EchoReply(echo),
            Icmpv6Type::EchoReply(echo),
            ping,
        ),
    ];
    for flow in Flow::over(family) {
        // What a real server answered.
        let answer = Segment::between(flow, destination, 80).reversed();
        let quote = answer.frame().split_off(14);
        contents.extend([
            (
                format!("too big about {flow}"),
                Icmpv4Type::DestinationUnreachable(
                    icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 },
                ),
                Icmpv6Type::PacketTooBig { mtu: 1400 },
                quote.clone(),
            ),
            (
                format!("unreachable about {flow}"),
                Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host),
                Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Address),
                quote.clone(),
            ),
            (
                format!("time exceeded about {flow}"),
                Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
                Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
                quote,
            ),
        ]);
    }
    contents
        .into_iter()
        .map(|(name, v4, v6, payload)| {
            let builder = PacketBuilder::ip(ip(family.client(), destination, 64));
            let mut packet = Vec::new();
            match family {
                Family::V4 => builder.icmpv4(v4).write(&mut packet, &payload),
                Family::V6 => builder.icmpv6(v6).write(&mut packet, &payload),
            }
            .expect("it fits a datagram");
            let frame = to_balancer(family.ether_type(), &packet);
            Case::passed(format!("{name} over {family} to {place}"), frame)
        })
        .collect()
}
