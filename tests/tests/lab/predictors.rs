//! Which real server a new session gets.

use std::thread;

use lb_tests::{Lab, TcpClient};
use rstest::rstest;

use crate::{
    session_maps::{active, members, wait_for_active},
    support::{
        VIP, VIP6, ask_all, balance_few, counts, decapsulate, lab, open, serve_tcp, tally,
        wait_for_state,
    },
};

/// The virtual servers `shop` and `shop6` with three real servers of these weights.
fn shops(settings: &str, weights: [u16; 3]) -> String {
    let bind = |prefix: &str| {
        let weighted = weights.iter().zip(1..);
        let members =
            weighted.map(|(weight, n)| format!("{{server: {prefix}-{n}, weight: {weight}}}"));
        members.collect::<Vec<_>>().join(", ")
    };
    format!(
        "
- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, {settings}, bind: [{}]}}
- {{name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, {settings}, bind: [{}]}}
",
        bind("web"),
        bind("web6")
    )
}

/// The virtual servers of [`shops`], and their VIPs.
const SHOPS: [(&str, &str); 2] = [("shop", VIP), ("shop6", VIP6)];

#[rstest]
fn a_round_robin_takes_servers_in_turn(#[values("l2dsr", "l3dsr")] forward: &str) {
    let lab = lab(3);
    let _servers = (serve_tcp(&lab, &[80]), decapsulate(&lab, ""));
    let settings = format!("forward: {forward}, predictor: round_robin");
    let _lb = balance_few(&lab, &shops(&settings, [1, 1, 1]));
    for (name, vip) in SHOPS {
        let connections = open(&lab, (vip, 80), 12);
        let servers = ask_all(&connections);
        let first = &servers[..3];
        assert_eq!(tally(first).len(), 3, "{servers:?}");
        assert!(servers.chunks(3).all(|turn| turn == first), "{servers:?}");
        let members = members(&lab, name);
        assert!(
            members.values().all(|it| (it.active, it.total) == (4, 4)),
            "{members:?}"
        );
    }
}

#[test]
fn a_round_robin_gives_each_weight_its_count() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, &shops("predictor: round_robin", [1, 2, 3]));
    for (_, vip) in SHOPS {
        let servers = ask_all(&open(&lab, (vip, 80), 24));
        for turns in servers.chunks(6) {
            let expected = counts([("web-1", 1), ("web-2", 2), ("web-3", 3)]);
            assert_eq!(tally(turns), expected, "{servers:?}");
        }
    }
}

#[test]
fn a_round_robin_counts_clients_that_come_at_once() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, &shops("predictor: round_robin", [1, 2, 3]));
    let servers: Vec<_> = thread::scope(|scope| {
        let client = || ask_all(&open(&lab, (VIP, 80), 30));
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        let answers = clients.into_iter().map(|client| client.join().unwrap());
        answers.flatten().collect()
    });
    let expected = counts([("web-1", 20), ("web-2", 40), ("web-3", 60)]);
    assert_eq!(tally(servers), expected);
}

#[rstest]
fn least_connection_fills_servers_by_weight(
    #[values("l2dsr", "l3dsr")] forward: &str,
    #[values([1, 1, 1], [1, 2, 3])] weights: [u16; 3],
) {
    let lab = lab(3);
    let _servers = (serve_tcp(&lab, &[80]), decapsulate(&lab, ""));
    let settings = format!("forward: {forward}, predictor: least_connection");
    let _lb = balance_few(&lab, &shops(&settings, weights));
    let sum: u16 = weights.iter().sum();
    let share = |n: usize| usize::from(18 / sum * weights[n]);
    let expected = counts([
        ("web-1", share(0)),
        ("web-2", share(1)),
        ("web-3", share(2)),
    ]);
    for (_, vip) in SHOPS {
        let connections = open(&lab, (vip, 80), 18);
        assert_eq!(tally(ask_all(&connections)), expected);
    }
}

#[rstest]
fn least_connection_fills_up_who_has_lost_sessions(#[values(false, true)] by_reset: bool) {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, &shops("predictor: least_connection", [1, 1, 1]));
    for (name, vip) in SHOPS {
        let (on_2, others): (Vec<_>, Vec<_>) = open(&lab, (vip, 80), 12)
            .into_iter()
            .partition(|one| one.ask().unwrap() == "web-2");
        assert_eq!((on_2.len(), others.len()), (4, 8));
        for connection in on_2 {
            if by_reset {
                connection.reset();
            }
        }
        wait_for_active(&lab, name, 8);
        let next = open(&lab, (vip, 80), 4);
        assert_eq!(tally(ask_all(&next)), counts([("web-2", 4)]));
        let active = active(&lab, name);
        assert!(active.values().all(|&active| active == 4), "{active:?}");
        drop(others);
    }
}

/// `web-1` with 20 connections, when `web-2` comes up; and another ten.
fn ten_when_a_server_comes_up(lab: &Lab, slow_start: &str) -> Vec<TcpClient> {
    let settings = format!("predictor: least_connection, slow_start: {slow_start}");
    let shop = format!(
        "- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, {settings}, bind: [web]}}"
    );
    let lb = balance_few(lab, &shop);
    lab.unplug(lab.real_server(2));
    wait_for_state(&lb, "shop", "web-2", "down");
    let held = open(lab, (VIP, 80), 20);
    lab.plug_in(lab.real_server(2));
    wait_for_state(&lb, "shop", "web-2", "up");
    let ten = open(lab, (VIP, 80), 10);
    assert_eq!(tally(ask_all(&held)), counts([("web-1", 20)]));
    if slow_start == "2s" {
        thread::sleep(std::time::Duration::from_secs(3));
        assert_eq!(ask_all(&open(lab, (VIP, 80), 1)), ["web-2"]);
    }
    ten
}

#[rstest]
#[case::at_once_without_a_ramp("none", 10)]
#[case::slowly_on_a_ramp("1h", 0)]
fn a_server_that_comes_up_is_filled(#[case] slow_start: &str, #[case] expected: usize) {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let ten = ten_when_a_server_comes_up(&lab, slow_start);
    let servers = tally(ask_all(&ten));
    assert_eq!(servers.get("web-2").copied().unwrap_or(0), expected);
}

#[test]
fn a_server_gets_its_share_after_the_ramp() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    ten_when_a_server_comes_up(&lab, "2s");
}

#[test]
fn source_hash_keeps_a_client_on_one_server() {
    let lab = Lab::builder()
        .real_servers(3)
        .client_addresses(16)
        .build()
        .unwrap();
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, &shops("predictor: source_hash", [1, 1, 1]));
    for prefix in ["10.9.0.", "2001:db8:9::"] {
        let vip = if prefix.contains(':') { VIP6 } else { VIP };
        let servers = (100..116).map(|host| {
            let source = format!("{prefix}{host}").parse().unwrap();
            let connect = || lab.client().tcp_from(source, (vip, 80)).unwrap();
            let connections: Vec<_> = (0..8).map(|_| connect()).collect();
            let servers = tally(ask_all(&connections));
            assert_eq!(servers.len(), 1, "{source}: {servers:?}");
            servers.into_keys().next().unwrap()
        });
        assert_eq!(tally(servers).len(), 3);
    }
}
