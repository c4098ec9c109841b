//! The sessions of a real server that is down.

use std::io::ErrorKind;

use lb_tests::{Lab, TcpClient, UdpClient, named};
use rstest::rstest;

use crate::{
    session_maps::active,
    support::{
        VIP, VIP6, ask_all, balance_few, counts, decapsulate, lab, number, open, serve_tcp,
        serve_udp, tally, wait_for_state,
    },
};

/// In each family: the end of the virtual servers' names, VIP, and what the second real server is called.
const FAMILIES: [(&str, &str, &str); 2] = [("", VIP, "web-2"), ("6", VIP6, "web6-2")];

/// Virtual servers `shop` (TCP) and `dns` (UDP) in each family.
fn services(settings: &str) -> String {
    let both = format!("predictor: round_robin, {settings}");
    format!(
        "
- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, {both}, bind: [web]}}
- {{name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, {both}, bind: [web6]}}
- {{name: dns, vip: 10.9.1.1, protocol: udp, port: 53, {both}, bind: [web]}}
- {{name: dns6, vip: '2001:db8:9:1::1', protocol: udp, port: 53, {both}, bind: [web6]}}
"
    )
}

fn flows(lab: &Lab, vip: &str) -> Vec<UdpClient> {
    let flows: Vec<_> = (0..6).map(|_| lab.client().udp((vip, 53))).collect();
    let expected = counts([("web-1", 2), ("web-2", 2), ("web-3", 2)]);
    assert_eq!(tally(who(&flows)), expected);
    flows
}

fn who(flows: &[UdpClient]) -> Vec<String> {
    let who = |flow: &UdpClient| flow.ask("?").unwrap().server;
    flows.iter().map(who).collect()
}

/// Those connections that the second server answers, and the others.
fn connections(lab: &Lab, vip: &str) -> (Vec<TcpClient>, Vec<TcpClient>) {
    let parts: (Vec<_>, Vec<_>) = open(lab, (vip, 80), 6)
        .into_iter()
        .partition(|one| one.ask().unwrap() == "web-2");
    assert_eq!((parts.0.len(), parts.1.len()), (2, 4));
    parts
}

#[rstest]
fn its_sessions_move_and_no_others(
    #[values("l2dsr", "l3dsr")] forward: &str,
    #[values("move", "reset")] on_down: &str,
) {
    let lab = lab(3);
    let _servers = (
        serve_tcp(&lab, &[80]),
        serve_udp(&lab, &[53]),
        decapsulate(&lab, ""),
    );
    let settings = format!("forward: {forward}, session: {{on_down: {on_down}}}");
    let lb = balance_few(&lab, &services(&settings));
    let all = FAMILIES.map(|family| (family, flows(&lab, family.1), connections(&lab, family.1)));
    lab.unplug(lab.real_server(2));
    for (end, _, server) in FAMILIES {
        for name in ["shop", "dns"] {
            wait_for_state(&lb, &format!("{name}{end}"), server, "down");
        }
    }

    let mut moved = Vec::new();
    for ((end, ..), flows, (on_second, others)) in &all {
        // Datagrams go on with another server, whatever becomes of connections.
        let servers = who(flows);
        assert_eq!(
            tally(&servers),
            counts([("web-1", 3), ("web-3", 3)]),
            "{servers:?}"
        );
        assert_eq!(who(flows), servers);
        moved.push(servers);
        assert_eq!(active(&lab, &format!("dns{end}")).values().sum::<u64>(), 6);
        // A server that doesn't know a connection resets it, too.
        for connection in on_second {
            let error = connection.ask().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(tally(ask_all(others)), counts([("web-1", 2), ("web-3", 2)]));
    }
    let status = lb.status().unwrap();
    let resets = number(&status["drops"]["server_down_reset"]);
    assert_eq!(resets, if on_down == "reset" { 4 } else { 0 });

    lab.plug_in(lab.real_server(2));
    for (end, _, server) in FAMILIES {
        wait_for_state(&lb, &format!("dns{end}"), server, "up");
    }
    for (((_, vip, _), flows, (_, others)), moved) in all.iter().zip(moved) {
        assert_eq!(who(flows), moved);
        assert_eq!(tally(ask_all(others)), counts([("web-1", 2), ("web-3", 2)]));
        self::flows(&lab, vip);
    }
}

#[test]
fn a_virtual_server_that_is_down_keeps_the_sessions_of_servers_that_are_up() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let lb = balance_few(
        &lab,
        "
- name: shop
  vip: 10.9.1.1
  protocol: tcp
  port: 80
  predictor: round_robin
  minimum_up: 2
  bind: [web]
",
    );
    let connections = open(&lab, (VIP, 80), 4);
    let first = ask_all(&connections);
    lab.unplug(lab.real_server(2));
    wait_for_state(&lb, "shop", "web-2", "down");
    let status = lb.status().unwrap();
    assert_eq!(named(&status["virtual_servers"], "shop")["state"], "down");
    for (connection, server) in connections.iter().zip(first) {
        if server == "web-1" {
            assert_eq!(connection.ask().unwrap(), server);
        }
    }
    assert!(lab.client().tcp((VIP, 80)).is_err());
}

#[test]
fn sessions_wait_for_their_server_while_no_other_is_up() {
    let lab = lab(2);
    let _servers = serve_udp(&lab, &[53]);
    let lb = balance_few(
        &lab,
        "- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, predictor: round_robin, bind: [web]}",
    );
    let flows: Vec<_> = (0..4).map(|_| lab.client().udp((VIP, 53))).collect();
    let before = who(&flows);
    let servers = [(1, "web-1"), (2, "web-2")];
    for (number, server) in servers {
        lab.unplug(lab.real_server(number));
        wait_for_state(&lb, "dns", server, "down");
    }
    assert!(flows[0].ask("?").is_err());
    for (number, server) in servers {
        lab.plug_in(lab.real_server(number));
        wait_for_state(&lb, "dns", server, "up");
    }
    assert_eq!(who(&flows), before);
}
