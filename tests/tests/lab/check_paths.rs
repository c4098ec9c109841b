//! Health checks by the data path have a way of their own: they disturb nobody, need nothing of the host's routes, and
//! leave nothing behind.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr, TcpListener},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::programs::{SchedClassifier, TcAttachType};
use lb_tests::{Builder, Daemon, Host, Lab};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;

use crate::{
    checks::{WAYS, WENT_DOWN, Way, checking, real_server},
    support::{VIPS, decapsulate, lab, serve_http, serve_udp, wait_for_state, wait_until},
};

const FAST: &str = "interval: 300ms, timeout: 300ms, rise: 1, fall: 10";
/// All that sends something by the data path.
const BY_PATH: &str = "icmp, syn, tcp, http, udp: {port: 53, send: hello}";

/// Waits until no check of the first real server of these ways has anything to say.
fn wait_for_silence(lb: &Daemon<'_>, ways: &[Way]) {
    let is_silent = |status: &Value| {
        ways.iter().all(|&way| {
            let mut checks = real_server(status, way, 1)["checks"]
                .as_array()
                .unwrap()
                .iter();
            checks.all(|check| check["message"] == "")
        })
    };
    lb.wait_until("all checks pass", is_silent).unwrap();
}

/// What a server's application sees, and what its kernel keeps of connections.
#[test]
fn half_open_checks_reach_no_application_and_leave_no_connection() {
    let lab = lab(1);
    let _decap = decapsulate(&lab, "");
    let server = lab.real_server(1);
    let listen = |port| {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    };
    let listeners = server.run(|| [80, 8080].map(listen));
    let checks = "syn, syn: {via: real}";
    let lb = Daemon::start(&lab, &checking(&lab, FAST, checks, &WAYS)).unwrap();
    sleep(Duration::from_secs(1));
    wait_for_silence(&lb, &WAYS);
    assert!(lb.stop(Signal::SIGTERM).unwrap().success());
    for listener in &listeners {
        let accepted = listener.accept().map_err(|error| error.kind());
        assert_eq!(accepted.unwrap_err(), ErrorKind::WouldBlock);
    }
    assert_eq!(half_open(server), 0);
}

/// Connections that a host's kernel has answered the SYN of, and no more.
fn half_open(host: &Host) -> usize {
    const SYN_RECEIVED: &str = "03";
    let tables = host.run(|| {
        ["tcp", "tcp6"]
            .map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap())
    });
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let states = lines.filter_map(|line| line.split_whitespace().nth(3));
    states.filter(|state| *state == SYN_RECEIVED).count()
}

/// A server whose SYN-ACKs get lost waits for a minute for what comes next.
#[test]
fn half_open_checks_without_an_answer_leave_no_connection() {
    let lab = lab(1);
    let (server, balancer) = (lab.real_server(1), lab.balancer());
    let _servers = serve_http(&lab, &[8080]);
    let way = &WAYS[..1];
    let lb = Daemon::start(&lab, &checking(&lab, FAST, "syn", way)).unwrap();
    // The client is no router.
    let (to, by) = (balancer.v4(), lab.client().v4());
    server.ip(&format!("route add {to} via {by}"));
    let reason = "no SYN-ACK from ";
    let is_lost = |status: &Value| {
        let check = &real_server(status, way[0], 1)["checks"][0]["message"];
        check.as_str().unwrap().starts_with(reason)
            && check.as_str().unwrap().contains("(6 in a row")
    };
    lb.wait_until(reason, is_lost).unwrap();
    // The last check may be under way.
    assert!(half_open(server) <= 1, "{}", half_open(server));
}

/// Answers come straight from where the servers are, by whichever interface.
#[rstest]
#[case::next_to_the_balancer(Lab::builder().real_servers(2), &WAYS)]
#[case::behind_a_router(Lab::builder().real_servers(0).behind_router(2), &WAYS[2..])]
#[case::on_another_segment(Lab::builder().real_servers(0).on_second_segment(2), &WAYS)]
fn checks_pass_on_a_host_with_strict_filters_and_no_route_to_the_vips(
    #[case] lab: Builder,
    #[case] ways: &[Way],
    #[values("native", "generic")] mode: &str,
) {
    let lab = lab.build().unwrap();
    let balancer = lab.balancer();
    let strict = ["all", "default", "eth0"].map(|of| format!("ipv4/conf/{of}/rp_filter"));
    let strict = strict.each_ref().map(|key| (key.as_str(), "1"));
    balancer.sysctls(&strict).unwrap();
    balancer.ip("route add unreachable 10.9.1.0/24");
    balancer.ip("route add unreachable 2001:db8:9:1::/64");
    let _servers = (serve_http(&lab, &[80, 8080]), serve_udp(&lab, &[53]));
    let _decap = decapsulate(&lab, "");
    let config = checking(&lab, FAST, BY_PATH, ways);
    let config = config.replace("xdp: auto", &format!("xdp: {mode}"));
    let lb = Daemon::start(&lab, &config).unwrap();
    // Over a few rounds of checks: the first ones came before the balancer was attached.
    sleep(Duration::from_secs(1));
    wait_for_silence(&lb, ways);
    for way in ways {
        let report = lab
            .client()
            .http()
            .parallel(4)
            .get((way.vip, way.port), 200);
        report.assert_all_succeeded();
        let servers = lab.real_servers().len();
        assert_eq!(report.by_server().len(), servers, "{}", way.virtual_server);
    }
    drop(lb);
    let log = lab.log();
    assert!(!log.contains(WENT_DOWN), "{log}");
}

/// Its connections use the ports of the checks, and end at the same addresses and ports.
#[test]
fn the_hosts_own_traffic_to_a_vip_gets_its_answers_while_checks_get_theirs() {
    let lab = lab(1);
    let balancer = lab.balancer();
    let _servers = (serve_http(&lab, &[80, 8080]), serve_udp(&lab, &[53]));
    let _decap = decapsulate(&lab, "");
    let range = [("ipv4/ip_local_port_range", "61000 65535")];
    balancer.sysctls(&range).unwrap();
    let mac = lab.real_server(1).mac().map(|byte| format!("{byte:02x}"));
    for vip in VIPS {
        balancer.ip(&format!(
            "neigh add {vip} lladdr {} dev eth0",
            mac.join(":")
        ));
    }
    let lb = Daemon::start(&lab, &checking(&lab, FAST, BY_PATH, &WAYS)).unwrap();
    for way in WAYS {
        let report = balancer.http().parallel(4).get((way.vip, way.port), 200);
        report.assert_all_succeeded();
        for _ in 0..50 {
            let flow = balancer.udp((way.vip, 53));
            assert_eq!(flow.ask("own").unwrap().payload, "own");
        }
        let vip: IpAddr = way.vip.parse().unwrap();
        balancer.ping(vip, Duration::from_secs(1)).unwrap();
    }
    wait_for_silence(&lb, &WAYS);
    let log = lab.log();
    assert!(!log.contains(WENT_DOWN), "{log}");
}

/// What the balancer's network consists of.
fn network(lab: &Lab) -> Vec<String> {
    let host = lab.balancer();
    let links = host.ip("-br link show");
    let mut names: Vec<_> = links
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    names.sort();
    let rest = [
        "-4 rule show",
        "-6 rule show",
        "-4 route show table all",
        "-6 route show table all",
    ];
    names.extend(rest.map(|list| host.ip(list)));
    let mut tc = Command::new("tc");
    let qdiscs = host.output(tc.args(["qdisc", "show"])).unwrap();
    names.push(String::from_utf8(qdiscs.stdout).unwrap());
    names
}

/// How many tc programs see what comes to the balancer's interface.
fn collecting(lab: &Lab) -> usize {
    let programs = lab
        .balancer()
        .run(|| SchedClassifier::query_tcx("eth0", TcAttachType::Ingress));
    programs.unwrap().1.len()
}

/// The network namespaces of a process's threads, by their numbers.
fn namespaces(of: i32) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{of}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let namespace = |thread: fs::DirEntry| fs::read_link(thread.path().join("ns/net")).ok();
    let links = threads.filter_map(namespace);
    links.map(|link| link.display().to_string()).collect()
}

#[rstest]
#[case::sigterm(Signal::SIGTERM)]
#[case::a_crash(Signal::SIGKILL)]
fn nothing_of_the_checks_is_left_after(#[case] end: Signal) {
    let lab = lab(1);
    let _servers = (serve_http(&lab, &[80, 8080]), serve_udp(&lab, &[53]));
    let _decap = decapsulate(&lab, "");
    let before = network(&lab);
    let lb = Daemon::start(&lab, &checking(&lab, FAST, BY_PATH, &WAYS)).unwrap();
    assert_eq!(collecting(&lab), 1);
    assert!(network(&lab).iter().any(|link| link.starts_with("lb-hc")));
    assert_eq!(namespaces(lb.pid()).len(), 2);

    lb.stop(end).unwrap();
    // The kernel takes namespaces down in turn.
    wait_until("the network is as it was", || network(&lab) == before);
    assert_eq!(collecting(&lab), 0);
}

#[test]
fn a_changed_mac_address_is_followed_within_seconds_by_a_check_of_it() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80, 8080]);
    let _lb = Daemon::start(&lab, &checking(&lab, FAST, "arp, http", &WAYS[..2])).unwrap();
    lab.real_server(2)
        .ip("link set dev eth0 address 02:00:00:00:00:99");
    let changed = Instant::now();
    let client = lab.client().http().timeout(Duration::from_millis(300));
    for way in &WAYS[..2] {
        wait_until("both servers answer", || {
            client.get((way.vip, way.port), 20).by_server().len() == 2
        });
    }
    // The kernel believes its neighbour table for a second at least (net/ipv4/arp.c, LOCKTIME); without a check it asks the old
    // address for three.
    assert!(
        changed.elapsed() < Duration::from_secs(3),
        "{:?}",
        changed.elapsed()
    );
}

#[test]
fn what_does_not_fit_the_mtu_of_a_way_is_not_sent() {
    /// Of each way: 1500, without the outer header.
    const ROOM: [u16; 6] = [1500, 1500, 1480, 1460, 1460, 1480];
    let lab = lab(1);
    let _decap = decapsulate(&lab, "");
    for size in [1460, 1461, 1480, 1481, 1500, 1501] {
        let checks = format!("icmp: {{size: {size}}}");
        let lb = Daemon::spawn(&lab, &checking(&lab, FAST, &checks, &WAYS)).unwrap();
        for (way, room) in WAYS.iter().zip(ROOM) {
            let name = way.server(1);
            if size <= room {
                wait_for_state(&lb, way.virtual_server, &name, "up");
                continue;
            }
            let reason = format!(
                "can't check {} through {name}: an echo request of {size} bytes does not fit the MTU of {room} on the way",
                way.vip
            );
            let so = |status: &Value| {
                let server = real_server(status, *way, 1);
                server["reason"].as_str().unwrap().starts_with(&reason)
            };
            lb.wait_until(&reason, so).unwrap();
        }
        lb.stop(Signal::SIGTERM).unwrap();
        assert!(lab.lb("stop --config {config}").unwrap().status.success());
    }
}
