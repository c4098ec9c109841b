//! `lb decap` relays nothing: what a capsule holds is for its host, or stays inside, even if the host is a router.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use etherparse::{IpHeaders, Ipv4Options};
use lb_tests::{Host, PacketSocket};
use rstest::rstest;

use crate::{
    frames::{datagram, encapsulated, in_frame, ip_header, udp_payload},
    support::{PATIENCE, VIP, lab, number, wait_until},
};

const HIDDEN: &[u8] = b"in a capsule";
const OPEN: &[u8] = b"in the open";

/// Far from the lab, where default routes lead to.
const FAR: [&str; 2] = ["198.51.100.1", "2001:db8:ffff::1"];

/// Whom a host should send nothing to on behalf of others.
const OTHERS: [&str; 20] = [
    FAR[0],
    FAR[1],
    "10.9.0.100",
    "10.9.0.12",
    "10.9.0.0",
    "10.9.255.255",
    "255.255.255.255",
    "224.0.0.1",
    "239.1.1.1",
    "127.0.0.1",
    "0.0.0.0",
    "2001:db8:9::100",
    "2001:db8:9::12",
    "ff02::1",
    "ff0e::1",
    "fe80::1",
    "::1",
    "::",
    // The VIP and an address of the host, which have no place in IPv6.
    "::ffff:10.9.1.1",
    "::ffff:10.9.0.11",
];

/// A datagram from somewhere else.
fn packet(to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let from = match to {
        IpAddr::V4(_) => "198.51.100.7:1024",
        IpAddr::V6(_) => "[2001:db8:ffff::7]:1024",
    };
    datagram([from.parse().unwrap(), SocketAddr::new(to, 53)], payload)
}

/// To the VIP, but by way of another host (RFC 791, loose source and record route).
fn source_routed() -> Vec<u8> {
    let vip = VIP.parse().unwrap();
    let (IpHeaders::Ipv4(mut header, extensions), _) =
        IpHeaders::from_ipv4_slice(&packet(vip, HIDDEN)).unwrap()
    else {
        unreachable!("it is IPv4")
    };
    let udp = packet(vip, HIDDEN).split_off(header.header_len());
    header.options = Ipv4Options::from([131, 7, 4, 10, 9, 0, 100, 0]);
    header.set_payload_len(udp.len()).unwrap();
    let mut packet = Vec::new();
    IpHeaders::Ipv4(header, extensions)
        .write(&mut packet)
        .unwrap();
    packet.extend(udp);
    packet
}

#[rstest]
fn a_router_that_decapsulates_forwards_nothing_of_what_is_inside(
    #[values(Host::v4, Host::v6)] outer: fn(&Host) -> IpAddr,
    #[values("native", "generic")] mode: &str,
) {
    let lab = lab(2);
    let [router, attacker] = [1, 2].map(|number| lab.real_server(number));
    router
        .sysctls(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])
        .unwrap();
    router.ip("route add default via 10.9.0.100");
    router.ip("route add default via 2001:db8:9::100");
    let _decap = lab.decapsulate(router, &format!("--xdp {mode}")).unwrap();
    let seen = [lab.client(), attacker].map(|host| PacketSocket::open(host, "eth0"));
    let socket = PacketSocket::open(attacker, "eth0");
    let macs = [attacker.mac(), router.mac()];
    let shows = |payload| move |frame: &[u8]| udp_payload(frame).as_deref() == Some(payload);
    // It is a router: of what isn't in a capsule.
    let send_openly = || {
        for far in FAR {
            socket.send(&in_frame(macs, &packet(far.parse().unwrap(), OPEN)));
            assert!(
                seen[0].receive(PATIENCE, shows(OPEN)).is_some(),
                "{far} is not forwarded"
            );
        }
    };
    send_openly();

    let inside = OTHERS.map(|to| packet(to.parse().unwrap(), HIDDEN));
    let inside = inside.into_iter().chain([source_routed()]);
    let ends = [outer(attacker), outer(router)];
    let count = inside
        .map(|packet| socket.send(&encapsulated(macs, ip_header(ends), &packet)))
        .count() as u64;
    let stats = || lab.decap_stats(router, "eth0").unwrap();
    wait_until("every capsule is counted", || {
        let stats = stats();
        let passed = stats["passed"].as_object().unwrap().values().map(number);
        passed.sum::<u64>() + number(&stats["decapsulated"]["packets"]) == count
    });
    for seen in &seen {
        let relayed = seen.receive(Duration::from_millis(300), shows(HIDDEN));
        assert_eq!(relayed, None, "{}", stats());
    }
    // The source-routed one is for the VIP, and the kernel's to refuse (accept_source_route).
    assert_eq!(stats()["decapsulated"]["packets"], 1);
    send_openly();
}
