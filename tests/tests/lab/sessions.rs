//! A flow stays on its real server, whatever happens to others, as long as its session lasts.

use std::{
    io::ErrorKind,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use lb_common::session::{SLOTS, buckets_for};
use lb_tests::{Daemon, TcpClient};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;

use crate::{
    session_maps::{active, members, wait_for_active},
    sessions_cli::sessions,
    support::{
        StopAtEnd, VIP, VIP6, apply, ask_all, balance_few, counts, decapsulate, edit, few_sessions,
        lab, number, open, serve_http, serve_tcp, serve_udp, tally, wait_for_state, wait_until,
    },
};

/// Virtual servers `shop` and `shop6` for TCP, `dns` and `dns6` for UDP.
pub fn services(settings: &str, bound: &str) -> String {
    let bound6 = bound.replace("web", "web6");
    format!(
        "
- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, {settings}, bind: [{bound}]}}
- {{name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, {settings}, bind: [{bound6}]}}
- {{name: dns, vip: 10.9.1.1, protocol: udp, port: 53, {settings}, bind: [{bound}]}}
- {{name: dns6, vip: '2001:db8:9:1::1', protocol: udp, port: 53, {settings}, bind: [{bound6}]}}
"
    )
}

/// Only the virtual server `shop`.
fn shop(settings: &str) -> String {
    format!(
        "- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, predictor: round_robin, {settings}, bind: [web]}}"
    )
}

#[rstest]
fn nothing_moves_while_servers_come_and_go(
    #[values("hash", "round_robin")] predictor: &str,
    #[values("l2dsr", "l3dsr")] forward: &str,
) {
    let lab = lab(4);
    let _servers = (
        serve_tcp(&lab, &[80]),
        serve_udp(&lab, &[53]),
        decapsulate(&lab, ""),
    );
    let settings = format!("forward: {forward}, predictor: {predictor}");
    let lb = balance_few(&lab, &services(&settings, "web-1, web-2"));
    let connections: Vec<_> = [VIP, VIP6]
        .into_iter()
        .flat_map(|vip| open(&lab, (vip, 80), 16))
        .collect();
    let flows: Vec<_> = [VIP, VIP6]
        .into_iter()
        .flat_map(|vip| (0..16).map(move |_| vip))
        .map(|vip| lab.client().udp((vip, 53)))
        .collect();
    let all = || -> (Vec<_>, Vec<_>) {
        let flows = flows.iter().map(|flow| flow.ask("?").unwrap().server);
        (ask_all(&connections), flows.collect())
    };
    let before = all();
    assert_eq!(tally(&before.0).len(), 2);
    for bound in [
        "web-1, web-2, web-3, web-4",
        "{server: web-1, weight: 100}, web-2, web-3",
        "web-3, web-4",
        "web-1",
        "web-2, {server: web-4, weight: 7}",
        "web-1, web-2",
    ] {
        edit(&lab, &lb, &services(&settings, bound));
        assert_eq!(all(), before, "{bound}");
    }
}

#[test]
fn nothing_moves_while_settings_change() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let lb = balance_few(&lab, &services("predictor: hash", "web"));
    let mut connections = Vec::new();
    for settings in [
        "predictor: round_robin",
        "predictor: least_connection",
        "predictor: least_connection, slow_start: none",
        "predictor: source_hash, sticky: {timeout: 1h}",
        "minimum_up: 2, session: {on_down: reset}",
        "session: {idle_timeout: 1h}",
    ] {
        connections.extend(
            [VIP, VIP6]
                .into_iter()
                .flat_map(|vip| open(&lab, (vip, 80), 4)),
        );
        let before = ask_all(&connections);
        edit(&lab, &lb, &services(settings, "web"));
        assert_eq!(ask_all(&connections), before, "{settings}");
        let count = connections.len() as u64 / 2;
        for name in ["shop", "shop6"] {
            assert_eq!(active(&lab, name).values().sum::<u64>(), count);
        }
    }
}

/// As in a container that was moved here from another machine (time_namespaces(7)).
#[rstest]
#[case::ahead("86400")]
#[case::behind("-100")]
fn sessions_are_swept_by_the_clock_of_packets(#[case] seconds: &str) {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let config = few_sessions(&lab, &shop("session: {on_unknown: reset}"));
    let by = ["unshare", "--time", "--monotonic", seconds];
    let lb = Daemon::spawn_by(&lab, &config, &by).unwrap();
    lb.wait_until_up().unwrap();
    let connections = open(&lab, (VIP, 80), 6);
    let before = ask_all(&connections);
    let swept = |status: &Value| status["session_table"]["sessions_v4"] == 6;
    lb.wait_until("all sessions are met by the sweep", swept)
        .unwrap();
    for session in sessions(&lab, "") {
        assert!(number(&session["idle_seconds"]) < 20, "{session}");
    }
    assert_eq!(ask_all(&connections), before);
}

#[test]
fn a_virtual_server_that_comes_back_has_no_sessions() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80, 81]);
    let more = "
- {name: more, vip: 10.9.1.1, protocol: tcp, port: 81, predictor: round_robin, bind: [web]}";
    let shop = shop("session: {on_unknown: reset}");
    let lb = balance_few(&lab, &format!("{shop}{more}"));
    let connections = open(&lab, (VIP, 80), 6);
    let others = open(&lab, (VIP, 81), 6);
    let before = ask_all(&others);
    ask_all(&connections);
    edit(&lab, &lb, more);
    edit(&lab, &lb, &format!("{shop}{more}"));
    wait_for_active(&lab, "shop", 0);
    for connection in &connections {
        let error = connection.ask().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(tally(ask_all(&open(&lab, (VIP, 80), 6))).len(), 2);
    assert_eq!(ask_all(&others), before);
}

/// What has no place goes where the hash says, again and again.
#[test]
fn more_connections_than_sessions_are_served_by_the_hash() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let config = lab.config(&services("predictor: hash", "web")) + "limits: {sessions: 8}\n";
    let _lb = Daemon::start(&lab, &config).unwrap();
    for (name, vip) in [("shop", VIP), ("shop6", VIP6)] {
        let connections = open(&lab, (vip, 80), 100);
        let before = ask_all(&connections);
        assert_eq!(ask_all(&connections), before);
        let places = u64::from(buckets_for(8)) * SLOTS as u64;
        let count = active(&lab, name).values().sum::<u64>();
        assert!((8..=places).contains(&count), "{count}");
        connections.into_iter().for_each(TcpClient::reset);
        wait_for_active(&lab, name, 0);
    }
}

/// Connections begin and end while servers come and go, sessions expire and the daemon is killed.
#[rstest]
fn counts_are_right_after_a_storm(
    #[values("round_robin", "least_connection")] predictor: &str,
    #[values("l2dsr", "l3dsr")] forward: &str,
) {
    let lab = lab(3);
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let settings =
        format!("forward: {forward}, predictor: {predictor}, session: {{idle_timeout: 1s}}");
    let config = |bound: &str| few_sessions(&lab, &services(&settings, bound));
    let mut lb = Daemon::start(&lab, &config("web")).unwrap();
    let done = AtomicBool::new(false);
    let _lb = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let (lab, done) = (&lab, &done);
        for vip in [VIP, VIP6] {
            scope.spawn(move || {
                let client = lab.client().http().parallel(8);
                let client = client.timeout(Duration::from_millis(500));
                while !done.load(Ordering::Relaxed) {
                    client.get((vip, 80), 100);
                }
            });
        }
        for bound in ["web-1", "web-2, web-3", "web-3, web-1", "web"] {
            apply(lab, &lb, &config(bound));
            sleep(Duration::from_millis(500));
            lb.signal(Signal::SIGKILL);
            lb.wait().unwrap();
            lb = Daemon::start(lab, &config(bound)).unwrap();
            sleep(Duration::from_millis(500));
        }
        lab.unplug(lab.real_server(2));
        wait_for_state(&lb, "shop", "web-2", "down");
        lab.plug_in(lab.real_server(2));
        wait_for_state(&lb, "shop", "web-2", "up");
        drop(stop);
        lb
    });
    for name in ["shop", "shop6"] {
        wait_until("no count is off", || {
            active(&lab, name).values().all(|&active| active == 0)
        });
    }
}

#[rstest]
#[case::after_a_crash(Signal::SIGKILL)]
#[case::after_sigterm(Signal::SIGTERM)]
fn a_takeover_keeps_sessions(#[case] end: Signal) {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let settings = "predictor: round_robin, minimum_up: 1";
    let mut lb = balance_few(&lab, &services(settings, "web"));
    let connections: Vec<_> = [VIP, VIP6]
        .into_iter()
        .flat_map(|vip| open(&lab, (vip, 80), 9))
        .collect();
    let before = ask_all(&connections);
    let counted = || ["shop", "shop6"].map(|name| members(&lab, name));
    let members = counted();
    for _ in 0..2 {
        lb.stop(end).unwrap();
        assert_eq!(ask_all(&connections), before);
        lb = Daemon::start(&lab, &few_sessions(&lab, &services(settings, "web"))).unwrap();
        assert_eq!(ask_all(&connections), before);
        assert_eq!(counted(), members);
    }
    // The round robin goes on where it was, too.
    let next = ask_all(&open(&lab, (VIP, 80), 3));
    assert_eq!(next, before[..3]);
}

#[test]
fn fin_and_rst_end_a_session() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, &services("predictor: round_robin", "web"));
    for (name, vip) in [("shop", VIP), ("shop6", VIP6)] {
        let mut connections = open(&lab, (vip, 80), 8);
        ask_all(&connections);
        wait_for_active(&lab, name, 8);
        drop(connections.split_off(6));
        wait_for_active(&lab, name, 6);
        connections.drain(4..).for_each(TcpClient::reset);
        wait_for_active(&lab, name, 4);
        assert_eq!(ask_all(&connections).len(), 4);
        assert!(active(&lab, name).values().all(|&active| active == 2));
    }
}

#[test]
fn a_client_that_uses_a_port_again_begins_anew() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, &services("predictor: round_robin", "web"));
    for (name, client, vip) in [
        ("shop", lab.client().v4(), VIP),
        ("shop6", lab.client().v6(), VIP6),
    ] {
        let connect = || {
            TcpClient::connect(lab.client(), (client, 20_000).into(), (vip, 80))
                .unwrap_or_else(|error| panic!("{error}"))
        };
        let servers: Vec<_> = (0..4)
            .map(|_| {
                let connection = connect();
                let server = connection.ask().unwrap();
                connection.reset();
                server
            })
            .collect();
        assert_ne!(servers[0], servers[1]);
        assert_eq!(servers[..2], servers[2..]);
        wait_for_active(&lab, name, 0);
    }
}

#[rstest]
fn an_idle_session_is_over_with_or_without_the_daemon(#[values(false, true)] daemon: bool) {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let settings = shop("session: {idle_timeout: 2s, on_unknown: reset}");
    let lb = balance_few(&lab, &settings);
    let connections = open(&lab, (VIP, 80), 4);
    let before = ask_all(&connections);
    let lb = if daemon {
        Some(lb)
    } else {
        lb.stop(Signal::SIGKILL).unwrap();
        None
    };
    // In use they live on.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) {
        assert_eq!(ask_all(&connections), before);
        sleep(Duration::from_millis(200));
    }
    sleep(Duration::from_secs(5));
    let count = active(&lab, "shop").values().sum::<u64>();
    assert_eq!(count, if daemon { 0 } else { 4 });
    for connection in &connections {
        let error = connection.ask().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    drop(lb);
    let _lb = balance_few(&lab, &settings);
    wait_for_active(&lab, "shop", 0);
}

#[test]
fn a_session_that_is_swept_is_counted_once() {
    let lab = lab(2);
    let _servers = (serve_tcp(&lab, &[80]), serve_udp(&lab, &[53]));
    let settings = "predictor: round_robin, session: {idle_timeout: 1s}";
    let _lb = balance_few(&lab, &services(settings, "web"));
    let connections: Vec<_> = [VIP, VIP6]
        .into_iter()
        .flat_map(|vip| open(&lab, (vip, 80), 8))
        .collect();
    for vip in [VIP, VIP6] {
        (0..8).for_each(|_| drop(lab.client().udp((vip, 53)).ask("?").unwrap()));
    }
    for name in ["shop", "shop6", "dns", "dns6"] {
        wait_for_active(&lab, name, 0);
    }
    // They begin again, by `on_unknown: forward`, where the hash says; some servers don't know them.
    let answers = connections.iter().filter_map(|one| one.ask().ok());
    assert!(answers.count() < connections.len());
    for name in ["shop", "shop6", "dns", "dns6"] {
        wait_for_active(&lab, name, 0);
        let totals = members(&lab, name).into_values().map(|it| it.total);
        assert!(totals.sum::<u64>() >= 8, "{name}");
    }
}

#[test]
fn one_machine_under_two_names_is_counted_apart() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80, 81]);
    let virtual_servers = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, predictor: least_connection, bind: [web-1, again]}
- {name: more, vip: 10.9.1.1, protocol: tcp, port: 81, predictor: round_robin, bind: [web-1, web-2]}
";
    let again = format!(
        "real_servers:\n  again: {{address: {}}}\n",
        lab.real_server(1).v4()
    );
    let config = few_sessions(&lab, virtual_servers).replace("real_servers:\n", &again);
    let lb = Daemon::start(&lab, &config).unwrap();
    let connections = open(&lab, (VIP, 80), 10);
    let more = open(&lab, (VIP, 81), 4);
    assert_eq!(tally(ask_all(&connections)), counts([("web-1", 10)]));
    assert_eq!(tally(ask_all(&more)), counts([("web-1", 2), ("web-2", 2)]));
    let expected = |counts: [(&str, u64); 2]| counts.map(|(name, n)| (name.to_owned(), n)).into();
    assert_eq!(active(&lab, "shop"), expected([("again", 5), ("web-1", 5)]));
    assert_eq!(active(&lab, "more"), expected([("web-1", 2), ("web-2", 2)]));

    // One of the names goes, and its sessions stay.
    apply(&lab, &lb, &config.replace("[web-1, again]", "[again]"));
    assert_eq!(tally(ask_all(&connections)), counts([("web-1", 10)]));
    open(&lab, (VIP, 80), 3)
        .into_iter()
        .for_each(TcpClient::reset);
    assert_eq!(active(&lab, "shop"), expected([("again", 5), ("web-1", 5)]));
    connections.into_iter().for_each(TcpClient::reset);
    wait_until("only one is left", || {
        active(&lab, "shop") == [("again".to_owned(), 0)].into()
    });
    assert_eq!(active(&lab, "more"), expected([("web-1", 2), ("web-2", 2)]));
}

#[rstest]
fn an_idle_udp_flow_begins_anew(#[values("l2dsr", "l3dsr")] forward: &str) {
    let lab = lab(2);
    let _servers = (serve_udp(&lab, &[53]), decapsulate(&lab, ""));
    let settings =
        format!("forward: {forward}, predictor: round_robin, session: {{idle_timeout: 2s}}");
    let _lb = balance_few(&lab, &services(&settings, "web"));
    for vip in [VIP, VIP6] {
        let flow = lab.client().udp((vip, 53));
        let ask = || flow.ask("?").unwrap().server;
        let first = ask();
        for _ in 0..10 {
            sleep(Duration::from_millis(500));
            assert_eq!(ask(), first);
        }
        sleep(Duration::from_secs(5));
        assert_ne!(ask(), first);
    }
}
