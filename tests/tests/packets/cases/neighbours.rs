//! ARP and neighbour discovery: the program answers for VIPs, with the MAC address of the interface that
//! the question came in by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{ArpEthIpv4Packet, ArpOperation, Icmpv6Type, icmpv6::NeighborAdvertisementHeader};

use crate::{
    case::Case,
    fixture::{ANY, DOWN, FAR, LAN, NEAR},
    frames::{
        BROADCAST, CLIENT_MAC, Family, Mac, NeighborMessage, SHORTEST, Tag, arp, arp_reply,
        arp_request, padded,
    },
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 101);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

pub fn cases() -> Vec<Case> {
    let mut cases = arp_requests();
    cases.extend(other_arp());
    cases.extend(solicitations());
    cases.extend(other_neighbour_messages());
    cases
}

/// An address that is no VIP.
fn stranger() -> Ipv4Addr {
    v4(Family::V4.stranger())
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("{address} is not of IPv4"),
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) => panic!("{address} is not of IPv6"),
    }
}

fn arp_requests() -> Vec<Case> {
    let vip = v4(NEAR.vip(Family::V4));
    let answered = |what: &str, to: Mac, tags: &[Tag], request: &ArpEthIpv4Packet| {
        let reply = arp(CLIENT_MAC, tags, &arp_reply(LAN.mac, request));
        Case::answered(format!("ARP request {what}"), arp(to, tags, request), reply)
    };
    let request = &arp_request(CLIENT, vip);
    let of = |target: IpAddr| arp_request(CLIENT, v4(target));
    // RFC 5227 section 2.1.1.
    let probe = &arp_request(Ipv4Addr::UNSPECIFIED, vip);
    let filled_in = &ArpEthIpv4Packet {
        target_mac: BROADCAST,
        ..request.clone()
    };
    let (question, reply) = (arp(BROADCAST, &[], request), arp_reply(LAN.mac, request));
    let far_reply = arp_reply(FAR.mac, request);
    vec![
        answered("for a VIP", BROADCAST, &[], request),
        answered(
            "for a VIP with any port",
            BROADCAST,
            &[],
            &of(ANY.vip(Family::V4)),
        ),
        answered(
            "for a VIP with a virtual server that is down",
            BROADCAST,
            &[],
            &of(DOWN.vip(Family::V4)),
        ),
        answered(
            "for a VIP, sent to the balancer only",
            LAN.mac,
            &[],
            request,
        ),
        answered("that is a probe", BROADCAST, &[], probe),
        answered("with a target MAC address", BROADCAST, &[], filled_in),
        answered("in a VLAN", BROADCAST, &[Tag::q(7)], request),
        answered("in two VLANs", BROADCAST, &[Tag::ad(9), Tag::q(7)], request),
        Case::answered(
            "ARP request, padded",
            padded(question.clone(), SHORTEST),
            padded(arp(CLIENT_MAC, &[], &reply), SHORTEST),
        ),
        Case::answered(
            "ARP request by another interface",
            question,
            arp(CLIENT_MAC, &[], &far_reply),
        )
        .by(&FAR),
    ]
}

fn other_arp() -> Vec<Case> {
    let vip = v4(NEAR.vip(Family::V4));
    let request = arp_request(CLIENT, vip);
    let broadcast = |packet: &ArpEthIpv4Packet| arp(BROADCAST, &[], packet);
    let with = |operation| ArpEthIpv4Packet {
        operation,
        ..request.clone()
    };
    let announcement = |operation| ArpEthIpv4Packet {
        sender_ipv4: vip.octets(),
        ..with(operation)
    };
    let patched = |offset: usize, byte| {
        let mut frame = broadcast(&request);
        frame[14 + offset] = byte;
        frame
    };
    vec![
        Case::passed(
            "ARP request for another address",
            broadcast(&arp_request(CLIENT, stranger())),
        ),
        Case::passed(
            "ARP request in three VLANs",
            arp(BROADCAST, &[Tag::ad(9), Tag::q(7), Tag::q(5)], &request),
        ),
        Case::passed(
            "ARP reply for a VIP",
            arp(LAN.mac, &[], &arp_reply(CLIENT_MAC, &request)),
        ),
        Case::passed(
            "ARP reply of another address",
            broadcast(&arp_reply(CLIENT_MAC, &arp_request(CLIENT, stranger()))),
        ),
        Case::passed(
            "ARP announcement of a VIP",
            broadcast(&announcement(ArpOperation::REQUEST)),
        ),
        Case::passed(
            "ARP announcement of a VIP, as a reply",
            broadcast(&announcement(ArpOperation::REPLY)),
        ),
        Case::passed(
            "ARP announcement of another address",
            broadcast(&arp_request(stranger(), stranger())),
        ),
        Case::passed("reverse ARP", broadcast(&with(ArpOperation(3)))),
        Case::passed("ARP operation 0", broadcast(&with(ArpOperation(0)))),
        Case::passed("ARP over other hardware", patched(1, 6)),
        Case::passed("ARP for another protocol", patched(2, 0x86)),
        Case::passed("ARP with long hardware addresses", patched(4, 8)),
        Case::passed("ARP with long protocol addresses", patched(5, 16)),
    ]
}

fn solicitations() -> Vec<Case> {
    let answered = |what: &str, solicitation: NeighborMessage| {
        let answer = solicitation.advertisement(LAN.mac, true);
        let name = format!("neighbour solicitation {what}");
        Case::answered(name, solicitation.frame(), answer.frame())
    };
    let vip = v6(NEAR.vip(Family::V6));
    let multicast = NeighborMessage::solicitation(vip);
    let unicast = NeighborMessage {
        destination_mac: LAN.mac,
        destination: vip,
        ..multicast.clone()
    };
    // RFC 4861 section 4.3: it has no source link-layer address.
    let duplicate_detection = NeighborMessage {
        source: Ipv6Addr::UNSPECIFIED,
        options: Vec::new(),
        ..multicast.clone()
    };
    let to_all_nodes = NeighborMessage {
        destination_mac: ALL_NODES_MAC,
        destination: ALL_NODES,
        ..duplicate_detection.advertisement(LAN.mac, false)
    };
    // A nonce (RFC 3971 section 5.3.2) after the address.
    let nonce = [&multicast.options[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat();
    let in_vlans = |tags: &[Tag]| multicast.with(|it| it.tags = tags.to_vec());
    let by_far = multicast.advertisement(FAR.mac, true);
    vec![
        answered("for a VIP", multicast.clone()),
        answered("for a VIP, unicast", unicast.clone()),
        answered(
            "for a VIP with any port",
            NeighborMessage::solicitation(v6(ANY.vip(Family::V6))),
        ),
        answered(
            "without a source link-layer address",
            unicast.with(|it| it.options = Vec::new()),
        ),
        answered("with a nonce", multicast.with(|it| it.options = nonce)),
        answered("in a VLAN", in_vlans(&[Tag::q(7)])),
        answered("in two VLANs", in_vlans(&[Tag::ad(9), Tag::q(7)])),
        Case::answered(
            "duplicate address detection",
            duplicate_detection.frame(),
            to_all_nodes.frame(),
        ),
        Case::answered(
            "neighbour solicitation by another interface",
            multicast.frame(),
            by_far.frame(),
        )
        .by(&FAR),
    ]
}

fn other_neighbour_messages() -> Vec<Case> {
    let vip = v6(NEAR.vip(Family::V6));
    let solicitation = NeighborMessage::solicitation(vip);
    let passed = |what: &str, message: NeighborMessage| {
        Case::passed(format!("neighbour {what}"), message.frame())
    };
    let of_kind = |kind| solicitation.with(|it| it.kind = kind);
    let advertisement = |r#override| {
        Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
            router: false,
            solicited: false,
            r#override,
        })
    };
    let hop_limit = |hop_limit| solicitation.with(|it| it.hop_limit = hop_limit);
    vec![
        passed(
            "solicitation for another address",
            NeighborMessage::solicitation(v6(Family::V6.stranger())),
        ),
        // An IPv4 address mapped into IPv6 has no place on the wire (RFC 4291 section 2.5.5.2).
        passed(
            "solicitation for a VIP of IPv4, mapped",
            NeighborMessage::solicitation(v4(NEAR.vip(Family::V4)).to_ipv6_mapped()),
        ),
        passed("solicitation from beyond a router", hop_limit(254)),
        passed("solicitation with hop limit 0", hop_limit(0)),
        passed(
            "solicitation with code 1",
            of_kind(Icmpv6Type::Unknown {
                type_u8: 135,
                code_u8: 1,
                bytes5to8: [0; 4],
            }),
        ),
        passed("advertisement of a VIP", of_kind(advertisement(false))),
        passed(
            "advertisement of a VIP, override",
            of_kind(advertisement(true)),
        ),
        passed(
            "redirect",
            of_kind(Icmpv6Type::Unknown {
                type_u8: 137,
                code_u8: 0,
                bytes5to8: [0; 4],
            }),
        ),
        passed(
            "solicitation in three VLANs",
            NeighborMessage {
                tags: vec![Tag::ad(9), Tag::q(7), Tag::q(5)],
                ..solicitation.clone()
            },
        ),
    ]
}
