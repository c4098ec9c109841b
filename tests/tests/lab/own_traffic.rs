//! Traffic of the balancer's host itself, which `lb` leaves alone.

use std::time::Duration;

use etherparse::PacketBuilder;
use lb_tests::{HttpServer, PacketSocket, UdpServer};

use crate::support::{DNS, SHOP, VIP, VIP6, balance, lab, serve_http};

#[test]
fn services_of_the_balancers_host_are_reached() {
    let lab = lab(2);
    let host = lab.balancer();
    // On the ports of the virtual servers, but at its own addresses.
    let _http = HttpServer::start(host, &[80]);
    let _udp = UdpServer::start(host, &[(host.v4(), 53), (host.v6(), 53)]);
    let _lb = balance(&lab, &[SHOP, DNS].concat());
    for address in [host.v4(), host.v6()] {
        let report = lab.client().http().parallel(8).get((address, 80), 100);
        report.assert_all_succeeded();
        assert_eq!(report.by_server(), [("balancer".to_owned(), 100)].into());
        // The large one travels in fragments.
        for payload in ["small".to_owned(), "large".repeat(1000)] {
            assert_eq!(
                lab.client()
                    .udp((address, 53))
                    .ask(&payload)
                    .unwrap()
                    .payload,
                payload
            );
        }
    }
}

#[test]
fn connections_of_the_balancers_host_work() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let _lb = balance(&lab, SHOP);
    for address in [lab.real_server(1).v4(), lab.real_server(1).v6()] {
        lab.balancer()
            .http()
            .get((address, 80), 50)
            .assert_all_succeeded();
    }
}

#[test]
fn a_port_of_a_vip_without_a_virtual_server_passes_to_the_kernel() {
    let lab = lab(1);
    let host = lab.balancer();
    host.ip("addr add 10.9.1.1/32 dev lo");
    host.ip("addr add 2001:db8:9:1::1/128 dev lo nodad");
    let _kernel = HttpServer::start(host, &[80, 8080]);
    let _servers = serve_http(&lab, &[80, 8080]);
    let _lb = balance(&lab, SHOP);
    for vip in [VIP, VIP6] {
        for (port, server) in [(80, "web-1"), (8080, "balancer")] {
            let report = lab.client().http().get((vip, port), 20);
            report.assert_all_succeeded();
            assert_eq!(
                report.by_server(),
                [(server.to_owned(), 20)].into(),
                "{vip} port {port}"
            );
        }
    }
}

#[test]
fn the_balancers_host_answers_ping() {
    let lab = lab(1);
    let _lb = balance(&lab, SHOP);
    let socket = PacketSocket::open(lab.client(), "eth0");
    let mut request = Vec::new();
    PacketBuilder::ethernet2(lab.client().mac(), lab.balancer().mac())
        .ipv4([10, 9, 0, 100], [10, 9, 0, 1], 64)
        .icmpv4_echo_request(7, 1)
        .write(&mut request, b"are you there")
        .unwrap();
    socket.send(&request);
    // Type 0: echo reply (RFC 792).
    let reply = |frame: &[u8]| frame.ends_with(b"are you there") && frame[34] == 0;
    assert!(socket.receive(Duration::from_secs(1), reply).is_some());
}
