//! Tunnels in tunnels go in no circle: the balancer takes no header off, and `lb decap` takes one.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use lb_tests::{Host, Lab, PacketSocket};
use serde_json::Value;

use crate::{
    frames::{datagram, encapsulated, in_frame, ip_header, udp_payload},
    support::{TUNNELS, VIP, VIP6, balance, decapsulate, lab, number, wait_until},
};

const PAYLOAD: &[u8] = b"far inside";
/// As many headers as fit into 1500 bytes.
const DEPTH: usize = 48;

/// What the balancer has forwarded; what each real server has taken out of capsules, and what it has left inside.
fn counted(lab: &Lab, status: &Value) -> (u64, Vec<[u64; 2]>) {
    let virtual_servers = status["virtual_servers"].as_array().unwrap().iter();
    let forwarded = virtual_servers.map(|it| number(&it["packets"])).sum();
    let servers = lab.real_servers().iter().map(|host| {
        let stats = lab.decap_stats(host, "eth0").unwrap();
        let passed = stats["passed"].as_object().unwrap().values().map(number);
        [number(&stats["decapsulated"]["packets"]), passed.sum()]
    });
    (forwarded, servers.collect())
}

#[test]
fn capsules_in_capsules_come_to_rest() {
    let lab = lab(2);
    let _decaps = decapsulate(&lab, "");
    let lb = balance(&lab, TUNNELS);
    let [client, balancer, server] = [lab.client(), lab.balancer(), lab.real_server(1)];
    // Routers, too: what they don't know they send on.
    for host in [balancer, server] {
        host.sysctls(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])
            .unwrap();
    }
    let addresses = |host: &Host| [host.v4(), host.v6()];
    let vip = [VIP, VIP6].map(|vip| vip.parse().unwrap());
    let (from, own, real) = (addresses(client), addresses(balancer), addresses(server));
    // Who gets the frame, and where its headers lead, from the outermost one inwards and from the beginning again.
    let circles = [
        (balancer, vec![vip]),
        (balancer, vec![vip, real, own]),
        (server, vec![real]),
        (server, vec![real, vip]),
        (server, vec![real, own]),
    ];
    let seen = [client, server, lab.real_server(2)].map(|it| PacketSocket::open(it, "eth0"));
    let socket = PacketSocket::open(client, "eth0");
    for (first, places) in circles {
        let macs = [client.mac(), first.mac()];
        for outermost in [0, 1] {
            let ends = [(from[outermost], 40_000), (vip[outermost], 53)];
            let mut packet = datagram(ends.map(SocketAddr::from), PAYLOAD);
            for depth in (0..DEPTH).rev() {
                let family = (outermost + depth) % 2;
                let outer = ip_header([from[family], places[depth % places.len()][family]]);
                packet = encapsulated(macs, outer, &packet).split_off(14);
            }
            socket.send(&in_frame(macs, &packet));
        }
    }
    // Of each family one capsule in which the next one was for this host or its VIP, twice, and one for another host.
    let expected = (0, vec![[4, 2], [0, 0]]);
    let now = || counted(&lab, &lb.status().unwrap());
    wait_until("every capsule is counted", || now() == expected);
    sleep(Duration::from_millis(500));
    assert_eq!(now(), expected);
    for seen in &seen {
        let innermost = |frame: &[u8]| udp_payload(frame).as_deref() == Some(PAYLOAD);
        assert_eq!(seen.receive(Duration::from_millis(50), innermost), None);
    }
}
