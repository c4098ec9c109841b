//! Tunnels in tunnels: a packet inside others is nobody's business, however deep. As the payload of a flow it is what
//! payloads are.

use std::net::IpAddr;

use etherparse::{IpNumber, ip_number};

use super::icmp_errors::{answer, error};
use crate::{
    case::Case,
    fixture::{NEAR, Sources, TUNNEL, server_addresses, sources},
    frames::{Family, Flow, Segment, datagram, ip, to_balancer},
};

const MTU: usize = 1500;

/// Source and destination of each family.
type Ends = [[IpAddr; 2]; 2];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for flow in Flow::all() {
        for outer in Family::ALL {
            for inner in Family::ALL {
                cases.extend(passed(flow, [outer, inner]));
            }
        }
        cases.extend(as_payload(flow));
    }
    cases
}

/// The protocol number that says that such a packet is inside.
fn number(family: Family) -> IpNumber {
    match family {
        Family::V4 => ip_number::IPV4,
        Family::V6 => ip_number::IPV6,
    }
}

/// A packet in as many others as fit, of these families by turns, each from one end to the other.
fn nested(
    mut packet: Vec<u8>,
    mut inside: Family,
    families: [Family; 2],
    ends: Ends,
) -> (Vec<u8>, Family) {
    for family in families.into_iter().cycle() {
        let [source, destination] = ends[family as usize];
        let carrier = datagram(ip(source, destination, 64), number(inside), &packet);
        if carrier.len() > MTU {
            break;
        }
        (packet, inside) = (carrier, family);
    }
    (packet, inside)
}

/// To where a packet in a loop would go.
fn passed(flow: Flow, families: [Family; 2]) -> Vec<Case> {
    let [outer, inner] = families;
    let servers = Family::ALL.map(|family| {
        let mut servers = server_addresses();
        let server = servers.find(|it| it.is_ipv4() == (family == Family::V4));
        server.expect("servers of both families")
    });
    let own = servers.map(|server| sources(Sources::Own, server).addr());
    let vips = Family::ALL.map(|family| NEAR.vip(family));
    let clients = Family::ALL.map(Family::client);
    [
        ("a VIP", clients, vips),
        ("a VIP, from that", vips, vips),
        ("the tunnel's source", clients, own),
        ("a real server, from the balancer", own, servers),
    ]
    .into_iter()
    .map(|(name, from, to)| {
        let ends = [[from[0], to[0]], [from[1], to[1]]];
        let innermost = Segment::to(flow, &NEAR, 80).packet();
        let (packet, outermost) = nested(innermost, flow.family, families, ends);
        let name = format!("{flow}: in many capsules, {outer} and {inner}, to {name}");
        Case::passed(name, to_balancer(outermost.ether_type(), &packet))
    })
    .collect()
}

/// One outer header more, or none, and what is inside stays.
fn as_payload(flow: Flow) -> Vec<Case> {
    let capsules = |service| {
        let innermost = Segment::to(flow, service, service.port()).packet();
        let ends = Family::ALL.map(|family| [family.client(), service.vip(family)]);
        nested(innermost, flow.family, Family::ALL, ends).0
    };
    let mut cases: Vec<Case> = [&NEAR, &TUNNEL[0], &TUNNEL[1]]
        .into_iter()
        .map(|service| {
            let segment = Segment::to(flow, service, service.port());
            let headers = segment.packet().len() - segment.payload.len();
            let mut payload = capsules(service);
            payload.truncate(service.fits().min(MTU) - headers);
            Case::forwarded(
                "a payload of capsules",
                &segment.with(|it| it.payload = payload),
                service,
            )
        })
        .collect();
    let answer = answer(flow, &NEAR, 80);
    let capsule = answer
        .of_protocol(number(flow.family), &answer.reversed().packet())
        .split_off(14);
    cases.push(Case::passed(
        format!("{flow}: ICMP error, quoting a capsule"),
        error(&answer, &capsule),
    ));
    cases
}
