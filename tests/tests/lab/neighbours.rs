//! Who asks for a VIP's MAC address gets the balancer's.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use etherparse::icmpv6::NeighborAdvertisementHeader;
use lb_tests::{Lab, PacketSocket};
use rstest::rstest;

use crate::{
    frames::{Advertisement, BROADCAST, Mac, advertisement, arp_reply, arp_request, solicitation},
    support::{SHOP, balance, lab},
};

const SOON: Duration = Duration::from_secs(1);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 1, 0, 0, 0, 1);
/// Carried by the real servers, but bound to no virtual server.
const NO_VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 2);
const NO_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 1, 0, 0, 0, 2);
/// Addresses of the client's machine.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0x100);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// RFC 4291 section 2.7.1.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}

/// RFC 2464 section 7.
fn multicast_mac(address: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = address.octets();
    [0x33, 0x33, a, b, c, d]
}

#[rstest]
#[case::from_a_client(BROADCAST, CLIENT)]
#[case::sent_to_the_balancer_alone([2, 0, 10, 9, 0, 1], CLIENT)]
#[case::a_probe_for_duplicates(BROADCAST, Ipv4Addr::UNSPECIFIED)]
fn an_arp_request_for_a_vip_is_answered(#[case] destination: Mac, #[case] sender: Ipv4Addr) {
    let lab = lab(2);
    let _lb = balance(&lab, SHOP);
    let socket = PacketSocket::open(lab.client(), "eth0");
    socket.send(&arp_request([lab.client().mac(), destination], sender, VIP));
    let frame = socket
        .receive(SOON, |frame| arp_reply(frame).is_some())
        .expect("an ARP reply");
    let (ethernet, reply) = arp_reply(&frame).unwrap();
    assert_eq!(ethernet, [lab.balancer().mac(), lab.client().mac()]);
    assert_eq!(
        (reply.sender_mac, reply.sender_ipv4_addr()),
        (lab.balancer().mac(), VIP)
    );
    assert_eq!(
        (reply.target_mac, reply.target_ipv4_addr()),
        (lab.client().mac(), sender)
    );
    let another = socket.receive(SOON / 4, |frame| arp_reply(frame).is_some());
    assert_eq!(another, None, "one answer is enough");
}

#[test]
fn arp_requests_for_other_addresses_are_left_to_their_owners() {
    let lab = lab(2);
    let _lb = balance(&lab, SHOP);
    let socket = PacketSocket::open(lab.client(), "eth0");
    let ask = |target| {
        socket.send(&arp_request(
            [lab.client().mac(), BROADCAST],
            CLIENT,
            target,
        ));
        let frame = socket.receive(SOON / 2, |frame| arp_reply(frame).is_some())?;
        arp_reply(&frame).map(|(_, reply)| reply.sender_mac)
    };
    assert_eq!(ask(NO_VIP), None);
    assert_eq!(ask(Ipv4Addr::new(10, 9, 0, 1)), Some(lab.balancer().mac()));
    assert_eq!(
        ask(Ipv4Addr::new(10, 9, 0, 11)),
        Some(lab.real_server(1).mac())
    );
}

/// Sends a solicitation for `target` and returns the advertisement.
fn solicit(
    lab: &Lab,
    addresses: [Ipv6Addr; 2],
    hop_limit: u8,
    target: Ipv6Addr,
) -> Option<Advertisement> {
    let socket = PacketSocket::open(lab.client(), "eth0");
    let destination = match addresses[1] {
        multicast if multicast.is_multicast() => multicast_mac(multicast),
        _ => lab.balancer().mac(),
    };
    socket.send(&solicitation(
        [lab.client().mac(), destination],
        addresses,
        hop_limit,
        target,
    ));
    let about_target =
        |frame: &[u8]| advertisement(frame).is_some_and(|found| found.target == target);
    advertisement(&socket.receive(SOON / 2, about_target)?)
}

#[rstest]
#[case::multicast(CLIENT6, solicited_node(VIP6))]
#[case::unicast(CLIENT6, VIP6)]
#[case::a_probe_for_duplicates(Ipv6Addr::UNSPECIFIED, solicited_node(VIP6))]
fn a_solicitation_for_a_vip_is_answered(#[case] source: Ipv6Addr, #[case] destination: Ipv6Addr) {
    let lab = lab(2);
    let _lb = balance(&lab, SHOP);
    let balancer = lab.balancer().mac();
    // RFC 4861 section 7.2.4: an answer to the unspecified address goes to all nodes, unsolicited.
    let (asker, asker_mac) = match source {
        Ipv6Addr::UNSPECIFIED => (ALL_NODES, multicast_mac(ALL_NODES)),
        _ => (source, lab.client().mac()),
    };
    let expected = Advertisement {
        ethernet: [balancer, asker_mac],
        addresses: [VIP6, asker],
        hop_limit: 255,
        flags: NeighborAdvertisementHeader {
            router: false,
            solicited: !source.is_unspecified(),
            r#override: true,
        },
        target: VIP6,
        options: [&[2, 1][..], &balancer].concat(),
    };
    assert_eq!(
        solicit(&lab, [source, destination], 255, VIP6),
        Some(expected)
    );
}

#[test]
fn solicitations_for_other_addresses_are_left_to_their_owners() {
    let lab = lab(2);
    let _lb = balance(&lab, SHOP);
    let ask = |target| solicit(&lab, [CLIENT6, solicited_node(target)], 255, target);
    assert_eq!(ask(NO_VIP6), None);
    let owner = ask("2001:db8:9::11".parse().unwrap()).expect("web-1 answers");
    assert_eq!(owner.ethernet[0], lab.real_server(1).mac());
}

#[test]
fn a_solicitation_from_beyond_a_router_is_not_answered() {
    let lab = lab(1);
    let _lb = balance(&lab, SHOP);
    // RFC 4861 section 7.1.1: a hop limit of 255 proves that no router forwarded it.
    assert_eq!(
        solicit(&lab, [CLIENT6, solicited_node(VIP6)], 254, VIP6),
        None
    );
}

#[test]
fn the_balancer_joins_the_solicited_node_group_of_its_vips() {
    let lab = lab(1);
    // Another group than that of the balancer's own address.
    let config = "- {name: two6, vip: '2001:db8:9:1::2', protocol: tcp, port: 80, bind: [web6]}";
    let groups = || lab.balancer().ip("maddr show dev eth0");
    let group = solicited_node(NO_VIP6).to_string();
    assert!(!groups().contains(&group));
    let _lb = balance(&lab, config);
    // A switch that snoops MLD sends solicitations to members alone (RFC 4541 section 3).
    assert!(groups().contains(&group), "{}", groups());
}
