//! Which real server a flow gets.

use std::collections::BTreeMap;

use lb_tests::Lab;

use crate::support::{DNS, SHOP, VIP, VIP6, balance, lab, serve_http, serve_udp};

/// How many of `count` UDP flows, each from a fresh port, every server gets.
fn flows(lab: &Lab, vip: &str, count: usize) -> BTreeMap<String, usize> {
    let mut servers = BTreeMap::new();
    for _ in 0..count {
        let reply = lab.client().udp((vip, 53)).ask("?").unwrap();
        *servers.entry(reply.server).or_default() += 1;
    }
    servers
}

/// Five standard deviations of a binomial distribution, and one per cent for the table's granularity.
fn assert_share(servers: &BTreeMap<String, usize>, server: &str, share: f64) {
    let count = servers.values().sum::<usize>() as f64;
    let (got, expected) = (servers[server] as f64, count * share);
    let tolerance = 5.0 * (count * share * (1.0 - share)).sqrt() + 0.01 * count;
    assert!(
        (got - expected).abs() < tolerance,
        "{server} got {got}, not {expected} ± {tolerance}"
    );
}

#[test]
fn flows_are_spread_by_weight() {
    let lab = lab(3);
    let _servers = serve_udp(&lab, &[53]);
    let _lb = balance(
        &lab,
        "
- name: dns
  vip: 10.9.1.1
  protocol: udp
  port: 53
  bind: [web-1, {server: web-2, weight: 2}, {server: web-3, weight: 3}]
- name: dns6
  vip: 2001:db8:9:1::1
  protocol: udp
  port: 53
  bind: [web6-1, {server: web6-2, weight: 2}, {server: web6-3, weight: 3}]
",
    );
    for vip in [VIP, VIP6] {
        let servers = flows(&lab, vip, 1200);
        assert_share(&servers, "web-1", 1.0 / 6.0);
        assert_share(&servers, "web-2", 2.0 / 6.0);
        assert_share(&servers, "web-3", 3.0 / 6.0);
    }
}

#[test]
fn equal_weights_are_equal_shares() {
    let lab = lab(4);
    let _servers = serve_udp(&lab, &[53]);
    let _lb = balance(&lab, DNS);
    let servers = flows(&lab, VIP, 1200);
    for server in ["web-1", "web-2", "web-3", "web-4"] {
        assert_share(&servers, server, 0.25);
    }
}

#[test]
fn a_flow_stays_on_its_server() {
    let lab = lab(4);
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let _lb = balance(&lab, &[SHOP, DNS].concat());
    for vip in [VIP, VIP6] {
        for _ in 0..10 {
            let flow = lab.client().udp((vip, 53));
            let first = flow.ask("?").unwrap().server;
            assert!((0..50).all(|_| flow.ask("?").unwrap().server == first));
        }
        // Were its connection sent elsewhere in the middle, it would be reset.
        let report = lab
            .client()
            .http()
            .keep_alive()
            .parallel(10)
            .get((vip, 80), 1000);
        report.assert_all_succeeded();
    }
}

#[test]
fn the_same_flow_gets_the_same_server_again() {
    let lab = lab(4);
    let _servers = serve_udp(&lab, &[53]);
    let _lb = balance(&lab, DNS);
    let ask = |port| {
        let source = (lab.client().v4(), port).into();
        lb_tests::UdpClient::open(lab.client(), source, (VIP, 53))
            .ask("?")
            .unwrap()
            .server
    };
    let servers = || (20_000..20_050).map(ask).collect::<Vec<_>>();
    assert_eq!(servers(), servers());
}
