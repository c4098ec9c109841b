//! Health checks: who doesn't answer goes down, who answers faster gets more.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use lb_tests::{Daemon, EchoResponder, Lab, named};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;

use crate::{
    checks::{CAME_UP, WENT_DOWN},
    support::{DNS, VIP, balance, decapsulate, lab, number, serve_http, serve_udp, wait_until},
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A configuration with these settings for the health of all virtual servers.
fn config(lab: &Lab, health: &str, virtual_servers: &str) -> String {
    let health = format!("defaults: {{health: {{{health}, checks: [icmp: {{via: real}}]}}}}\n");
    health + &lab.config(virtual_servers)
}

/// What the status says of a real server.
fn real_server<'a>(status: &'a Value, virtual_server: &str, server: &str) -> &'a Value {
    let virtual_server = named(&status["virtual_servers"], virtual_server);
    named(&virtual_server["real_servers"], server)
}

/// Waits for a state of a real server, and returns what the status says of it then.
fn wait_for(lb: &Daemon, virtual_server: &str, server: &str, state: &str) -> Value {
    let so = |status: &Value| real_server(status, virtual_server, server)["state"] == state;
    let status = lb.wait_until(&format!("{server} is {state}"), so).unwrap();
    real_server(&status, virtual_server, server).clone()
}

/// How many of `count` new sessions every server gets.
fn sessions(lab: &Lab, vip: &str, count: usize) -> BTreeMap<String, usize> {
    let mut servers = BTreeMap::new();
    for _ in 0..count {
        let reply = lab.client().udp((vip, 53)).ask("?").unwrap();
        *servers.entry(reply.server).or_default() += 1;
    }
    servers
}

#[rstest]
#[case::ipv4("dns", "web")]
#[case::ipv6("dns6", "web6")]
fn a_real_server_that_does_not_answer_goes_down_and_comes_back(
    #[case] virtual_server: &str,
    #[case] name: &str,
) {
    let lab = lab(2);
    let _servers = serve_udp(&lab, &[53]);
    let health = "interval: 300ms, timeout: 100ms, rise: 2, fall: 3";
    let lb = Daemon::start(&lab, &config(&lab, health, DNS)).unwrap();
    let server = format!("{name}-2");
    let status = lb.status().unwrap();
    let check = &real_server(&status, virtual_server, &server)["checks"][0];
    assert_eq!(
        (&check["kind"], &check["ok"]),
        (&"icmp".into(), &true.into())
    );
    assert!(number(&check["latency_us"]) > 0);
    assert_eq!(check["message"], "");
    let vip = named(&status["virtual_servers"], virtual_server)["vip"].clone();
    let vip = vip.as_str().unwrap();
    assert_eq!(sessions(&lab, vip, 50).len(), 2);

    let silent = Instant::now();
    lab.real_server(2).answer_pings(false);
    let down = wait_for(&lb, virtual_server, &server, "down");
    // The third of three checks in a row, which are 270 ms apart or more.
    assert!(
        silent.elapsed() >= 540 * MILLISECOND,
        "{:?}",
        silent.elapsed()
    );
    let address = down["address"].as_str().unwrap();
    assert_eq!(
        down["reason"],
        format!("no echo reply from {address} in 100ms (3 in a row)")
    );
    assert_eq!(down["checks"][0]["ok"], false);
    assert_eq!(
        sessions(&lab, vip, 50).into_keys().collect::<Vec<_>>(),
        ["web-1"]
    );

    lab.real_server(2).answer_pings(true);
    let up = wait_for(&lb, virtual_server, &server, "up");
    assert_eq!(up["reason"], "");
    assert_eq!(sessions(&lab, vip, 50).len(), 2);
    let of_server = |line: &&str| line.contains(&format!("real_server={server}"));
    let log = lab.log();
    let lines: Vec<_> = log.lines().filter(of_server).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[1].contains(" down (up for "), "{log}");
    assert!(lines[2].contains(" up (down for "), "{log}");
}

#[test]
fn a_dead_server_behind_a_router_is_noticed() {
    let lab = Lab::builder()
        .real_servers(0)
        .behind_router(2)
        .build()
        .unwrap();
    let _servers = serve_udp(&lab, &[53]);
    let _decap = decapsulate(&lab, "");
    let dns = "- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, forward: l3dsr, bind: [web]}";
    let health = "interval: 200ms, rise: 1, fall: 2";
    let lb = Daemon::start(&lab, &config(&lab, health, dns)).unwrap();
    lab.unplug(lab.real_server(2));
    wait_for(&lb, "dns", "web-2", "down");
    assert_eq!(
        sessions(&lab, VIP, 20).into_keys().collect::<Vec<_>>(),
        ["web-1"]
    );
    lab.plug_in(lab.real_server(2));
    wait_for(&lb, "dns", "web-2", "up");
    assert_eq!(sessions(&lab, VIP, 50).len(), 2);
}

#[test]
fn a_flapping_server_changes_its_state_no_faster_than_rise_and_fall() {
    let lab = lab(1);
    let web = EchoResponder::start(lab.real_server(1), |_| Some(Duration::ZERO));
    let dns = "- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}";
    let health = "interval: 1s, rise: 2, fall: 3";
    let lb = Daemon::start(&lab, &config(&lab, health, dns)).unwrap();
    let assert_changes = |expected| {
        let log = lab.log();
        let changes = log.matches(WENT_DOWN).count() + log.matches(CAME_UP).count();
        assert_eq!(changes, expected, "{log}");
    };
    let after = |requests| wait_until("more requests", || web.requests() > requests);

    // Two missing answers, and one that comes.
    web.answer(|n| (n % 3 == 2).then_some(Duration::ZERO));
    after(12);
    assert_changes(0);

    web.answer(|_| None);
    wait_for(&lb, "dns", "web-1", "down");
    assert_changes(1);
    web.answer(|n| (n % 2 == 0).then_some(Duration::ZERO));
    after(10);
    assert_changes(1);

    web.answer(|_| Some(Duration::ZERO));
    wait_for(&lb, "dns", "web-1", "up");
    assert_changes(2);
}

#[test]
fn answers_that_come_while_the_daemon_is_held_up_count() {
    let lab = lab(1);
    let web = EchoResponder::start(lab.real_server(1), |_| Some(200 * MILLISECOND));
    let dns = "- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}";
    let lb = Daemon::start(&lab, &config(&lab, "interval: 1s, fall: 1", dns)).unwrap();
    let wait_for_requests = |more| {
        let before = web.requests();
        wait_until("more requests", || {
            let status = lb.status().unwrap();
            let check = &real_server(&status, "dns", "web-1")["checks"][0];
            // Nobody knows how long an answer took that lay in the socket.
            assert!(number(&check["latency_us"]) < 1_000_000, "{check}");
            web.requests() >= before + more
        });
    };
    for _ in 0..4 {
        wait_for_requests(1);
        lb.signal(Signal::SIGSTOP);
        sleep(1200 * MILLISECOND);
        lb.signal(Signal::SIGCONT);
    }
    wait_for_requests(2);
    assert!(!lab.log().contains(WENT_DOWN), "{}", lab.log());
}

#[test]
fn virtual_servers_that_ask_for_the_same_check_share_it() {
    let lab = lab(1);
    let web = EchoResponder::start(lab.real_server(1), |_| Some(Duration::ZERO));
    let twice = "
- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}
- {name: http, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web]}
";
    let lb = Daemon::start(&lab, &config(&lab, "interval: 100ms", twice)).unwrap();
    let (start, before) = (Instant::now(), web.requests());
    sleep(2 * Duration::from_secs(1));
    let requests = web.requests() - before;
    let intervals = start.elapsed().as_secs_f64() / 0.1;
    assert!(
        (requests as f64) < 1.5 * intervals,
        "{requests} in {intervals} intervals"
    );
    web.answer(|_| None);
    wait_for(&lb, "dns", "web-1", "down");
    wait_for(&lb, "http", "web-1", "down");
}

#[test]
fn slow_servers_delay_nobody_elses_checks() {
    let lab = lab(3);
    let dns = "- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}";
    let _silent = [1, 2].map(|n| EchoResponder::start(lab.real_server(n), |_| None));
    let quick = EchoResponder::start(lab.real_server(3), |_| Some(Duration::ZERO));
    let lb = Daemon::spawn(&lab, &config(&lab, "interval: 1s, timeout: 1s", dns)).unwrap();
    wait_for(&lb, "dns", "web-3", "up");
    let status = lb.status().unwrap();
    let check = &real_server(&status, "dns", "web-3")["checks"][0];
    assert!(number(&check["latency_us"]) < 500_000, "{check}");
    after_rounds(&quick, 3);
    assert_eq!(
        real_server(&lb.status().unwrap(), "dns", "web-3")["state"],
        "up"
    );
    let reason = "no echo reply from 10.9.0.11 in 1s (1 in a row)";
    let silent = |status: &Value| real_server(status, "dns", "web-1")["reason"] == reason;
    lb.wait_until(reason, silent).unwrap();
}

fn after_rounds(responder: &EchoResponder<'_>, rounds: u64) {
    let before = responder.requests();
    wait_until("more rounds", || responder.requests() >= before + rounds);
}

#[test]
fn states_outlive_the_daemon() {
    let lab = lab(2);
    let _servers = serve_udp(&lab, &[53]);
    let dns = "- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}";
    let config = config(&lab, "interval: 1s, timeout: 1s, rise: 1, fall: 2", dns);
    let lb = Daemon::start(&lab, &config).unwrap();
    lab.real_server(1).answer_pings(false);
    wait_for(&lb, "dns", "web-1", "down");
    lb.stop(Signal::SIGKILL).unwrap();

    lab.real_server(2).answer_pings(false);
    let lb = Daemon::spawn(&lab, &config).unwrap();
    let answers = |status: &Value| named(&status["virtual_servers"], "dns")["vip"] == VIP;
    let status = lb.wait_until("the daemon answers", answers).unwrap();
    let state = |server| &real_server(&status, "dns", server)["state"];
    assert_eq!(
        (state("web-1"), state("web-2")),
        (&"down".into(), &"up".into())
    );
    wait_for(&lb, "dns", "web-2", "down");
    for server in lab.real_servers() {
        server.answer_pings(true);
    }
    wait_for(&lb, "dns", "web-1", "up");
    wait_for(&lb, "dns", "web-2", "up");
    assert_eq!(sessions(&lab, VIP, 50).len(), 2);
}

#[test]
fn a_check_that_is_added_takes_nobody_down() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let shop = "- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web]}";
    let lb = balance(&lab, shop);
    lab.write_config(&config(&lab, "interval: 100ms", shop))
        .unwrap();
    let checked = |status: &Value| real_server(status, "shop", "web-1")["checks"][0]["ok"] == true;
    lb.wait_until("web-1 is checked", checked).unwrap();
    let states = lab.log().matches("real_server=web-1").count();
    assert_eq!(states, 1, "{}", lab.log());
}

/// The share of `web-2` in new sessions.
fn share_of_second(lab: &Lab) -> f64 {
    const SESSIONS: usize = 200;
    let servers = sessions(lab, VIP, SESSIONS);
    servers.get("web-2").copied().unwrap_or(0) as f64 / SESSIONS as f64
}

#[track_caller]
fn wait_for_share(lab: &Lab, expected: std::ops::Range<f64>) {
    wait_until(&format!("web-2 gets {expected:?} of new sessions"), || {
        expected.contains(&share_of_second(lab))
    });
}

#[test]
fn response_time_gives_faster_servers_more_in_proportion_and_follows_them() {
    let lab = lab(2);
    let _servers = serve_udp(&lab, &[53]);
    let [first, second] = [(1, 50), (2, 150)].map(|(n, millis)| {
        EchoResponder::start(lab.real_server(n), move |_| Some(millis * MILLISECOND))
    });
    let dns = "- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, predictor: response_time, bind: [web]}";
    let health = "interval: 200ms";
    let _lb = Daemon::start(&lab, &config(&lab, health, dns)).unwrap();
    // One part to three, and what the damping leaves: 0.25 to 0.27. A busy machine answers late.
    wait_for_share(&lab, 0.2..0.33);
    let shares: Vec<_> = (0..10)
        .map(|_| {
            sleep(300 * MILLISECOND);
            share_of_second(&lab)
        })
        .collect();
    let (low, high) = shares
        .iter()
        .fold((1.0_f64, 0.0_f64), |(low, high), &share| {
            (low.min(share), high.max(share))
        });
    assert!(low > 0.2 && high < 0.36 && high - low < 0.1, "{shares:?}");

    first.answer(|_| Some(150 * MILLISECOND));
    second.answer(|_| Some(50 * MILLISECOND));
    // Both come to within a tenth of what they should have: 0.7, after some forty checks.
    wait_for_share(&lab, 0.62..0.8);
}
