//! Clients reach real servers through a VIP.

use std::collections::BTreeSet;

use crate::support::{DNS, SHOP, VIP, VIP6, balance, lab, serve_http, serve_udp};

#[test]
fn a_thousand_sequential_and_64_way_parallel_requests_succeed() {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[80]);
    let _lb = balance(&lab, SHOP);
    for vip in [VIP, VIP6] {
        for parallel in [1, 64] {
            let report = lab.client().http().parallel(parallel).get((vip, 80), 1000);
            report.assert_all_succeeded();
            assert_eq!(report.by_server().len(), 3, "{:?}", report.by_server());
        }
    }
    assert_eq!(lab.client().tcp_retransmissions(), 0);
}

#[test]
fn udp_is_answered_by_every_real_server_from_the_vip() {
    let lab = lab(3);
    let _servers = serve_udp(&lab, &[53]);
    let _lb = balance(&lab, DNS);
    for vip in [VIP, VIP6] {
        // A connected socket takes answers from the VIP alone.
        let answered = (0..100).map(|_| lab.client().udp((vip, 53)).ask("?").unwrap().server);
        assert_eq!(answered.collect::<BTreeSet<_>>().len(), 3);
    }
}

#[test]
fn real_servers_see_the_client_address() {
    let lab = lab(2);
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let _lb = balance(&lab, &[SHOP, DNS].concat());
    for (vip, client) in [(VIP, lab.client().v4()), (VIP6, lab.client().v6())] {
        let report = lab.client().http().get((vip, 80), 20);
        report.assert_all_succeeded();
        for reply in &report.replies {
            assert_eq!(
                (reply.client_seen, reply.source.ip()),
                (reply.source, client)
            );
        }
        let flow = lab.client().udp_from(client, (vip, 53));
        assert_eq!(flow.ask("?").unwrap().client_seen, flow.source());
    }
}

#[test]
fn large_requests_and_answers_pass() {
    let lab = lab(1);
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let _lb = balance(&lab, &[SHOP, DNS].concat());
    for vip in [VIP, VIP6] {
        let report = lab.client().http().path("/bytes/3000000").get((vip, 80), 3);
        report.assert_all_succeeded();
        assert!(report.replies.iter().all(|reply| reply.length == 3_000_000));
        // The largest datagram that a link with an MTU of 1500 takes in one piece over IPv6; the answer
        // is larger, and comes back in fragments.
        let payload = "x".repeat(1500 - 40 - 8);
        assert_eq!(
            lab.client().udp((vip, 53)).ask(&payload).unwrap().payload,
            payload
        );
    }
}

#[test]
fn two_vips_lead_to_their_own_real_servers() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let _lb = balance(
        &lab,
        "
- {name: one, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-1]}
- {name: two, vip: 10.9.1.2, protocol: tcp, port: 80, bind: [web-2]}
- {name: one6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, bind: [web6-1]}
- {name: two6, vip: '2001:db8:9:1::2', protocol: tcp, port: 80, bind: [web6-2]}
",
    );
    for (vip, server) in [
        ("10.9.1.1", "web-1"),
        ("10.9.1.2", "web-2"),
        ("2001:db8:9:1::1", "web-1"),
        ("2001:db8:9:1::2", "web-2"),
    ] {
        let report = lab.client().http().get((vip, 80), 50);
        report.assert_all_succeeded();
        assert_eq!(
            report.by_server(),
            [(server.to_owned(), 50)].into(),
            "{vip}"
        );
    }
}

#[test]
fn tcp_and_udp_on_one_port_are_two_virtual_servers() {
    let lab = lab(2);
    let _servers = (serve_http(&lab, &[53]), serve_udp(&lab, &[53]));
    let _lb = balance(
        &lab,
        "
- {name: tcp, vip: 10.9.1.1, protocol: tcp, port: 53, bind: [web-1]}
- {name: udp, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web-2]}
",
    );
    let report = lab.client().http().get((VIP, 53), 20);
    assert_eq!(report.by_server(), [("web-1".to_owned(), 20)].into());
    for _ in 0..20 {
        assert_eq!(
            lab.client().udp((VIP, 53)).ask("?").unwrap().server,
            "web-2"
        );
    }
}
