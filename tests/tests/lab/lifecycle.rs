//! Daemons come and go; forwarding stays until `lb stop`.

use std::{
    fs,
    os::unix::net::UnixListener,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_tests::{Daemon, Lab, Report, named};
use nix::sys::signal::Signal;
use rstest::rstest;

use crate::{
    interfaces::xdp_mode,
    support::{
        DNS, SHOP, StopAtEnd, VIP, VIP6, assert_nobody_answers, balance, balance_in_mode, lab,
        serve_http, serve_udp,
    },
};

/// Has no native XDP.
const BRIDGE: &str = "link add br0 type bridge";

/// An interface of the balancer with nothing at its other end.
pub fn add_cable(lab: &Lab, name: &str) {
    let host = lab.balancer();
    host.ip(&format!("link add {name} type veth peer name {name}.end"));
    host.ip(&format!("link set dev {name} up"));
}

/// Asks over UDP without a pause until told to stop, and says how often. Panics if an answer is lost.
fn ask_until(lab: &Lab, stop: &AtomicBool) -> usize {
    let flows = [VIP, VIP6].map(|vip| lab.client().udp((vip, 53)));
    let ask = |count| {
        for flow in &flows {
            flow.ask("?")
                .unwrap_or_else(|error| panic!("after {count} datagrams: {error}"));
        }
        count + 1
    };
    (0..)
        .map(ask)
        .take_while(|_| !stop.load(Ordering::Relaxed))
        .count()
}

#[rstest]
#[case::after_sigterm(Signal::SIGTERM)]
#[case::after_a_crash(Signal::SIGKILL)]
fn takeovers_during_ten_thousand_requests_lose_nothing(#[case] end: Signal) {
    let lab = lab(3);
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let config = lab.config(&[SHOP, DNS].concat());
    let mut lb = Daemon::start(&lab, &config).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let datagrams = scope.spawn(|| ask_until(&lab, &done));
        let requests = scope.spawn(|| {
            let get = |vip| lab.client().http().parallel(16).get((vip, 80), 5000);
            [VIP, VIP6]
                .map(get)
                .into_iter()
                .fold(Report::default(), Report::and)
        });
        let mut takeovers = 0;
        while !requests.is_finished() {
            lb.stop(end).unwrap();
            lb = Daemon::start(&lab, &config).unwrap();
            takeovers += 1;
        }
        drop(stop);
        let report = requests.join().unwrap();
        report.assert_all_succeeded();
        assert_eq!(report.replies.len(), 10_000);
        assert!(takeovers > 0 && datagrams.join().unwrap() > 0);
    });
}

#[rstest]
#[case::after_sigterm(Signal::SIGTERM)]
#[case::after_a_crash(Signal::SIGKILL)]
fn forwarding_goes_on_without_a_daemon(#[case] end: Signal) {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let status = balance(&lab, SHOP).stop(end).unwrap();
    assert_eq!(status.success(), end == Signal::SIGTERM, "{status}");
    for vip in [VIP, VIP6] {
        lab.client()
            .http()
            .parallel(16)
            .get((vip, 80), 200)
            .assert_all_succeeded();
    }
}

#[test]
fn counters_survive_a_takeover() {
    let lab = lab(2);
    let _servers = serve_udp(&lab, &[53]);
    let ask = |count| (0..count).for_each(|_| drop(lab.client().udp((VIP, 53)).ask("?").unwrap()));
    let first = balance(&lab, DNS);
    ask(10);
    first.stop(Signal::SIGTERM).unwrap();
    ask(10);
    let second = balance(&lab, DNS);
    ask(10);
    let counted =
        |status: &serde_json::Value| named(&status["virtual_servers"], "dns")["packets"] == 30;
    second.wait_until("30 packets", counted).unwrap();
}

#[test]
fn a_second_daemon_on_the_same_pins_is_refused() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, SHOP);
    let refused = lab.lb("run --config {config}").unwrap();
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(
        message.contains(lab.pin_path().to_str().unwrap()),
        "{message}"
    );
    lab.client()
        .http()
        .get((VIP, 80), 100)
        .assert_all_succeeded();
    lb.status().unwrap();
}

#[rstest]
#[case::of_a_daemon_that_ended(false)]
#[case::of_a_running_daemon(true)]
fn lb_stop_leaves_nothing(#[case] running: bool) {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let mut lb = Some(balance(&lab, SHOP));
    if !running {
        lb.take().unwrap().stop(Signal::SIGTERM).unwrap();
    }
    assert!(lab.pin_path().exists() && xdp_mode(lab.balancer(), "eth0").is_some());

    let stop = lab.lb("stop --config {config}").unwrap();
    assert!(
        stop.status.success(),
        "{}",
        String::from_utf8_lossy(&stop.stderr)
    );
    let said = String::from_utf8(stop.stdout).unwrap();
    assert!(said.starts_with("forwarding ended"), "{said}");
    assert_eq!(said.contains("no daemon"), !running, "{said}");
    assert!(lb.is_none_or(|lb| lb.wait().unwrap().success()));
    assert!(!lab.pin_path().exists());
    assert_eq!(xdp_mode(lab.balancer(), "eth0"), None);
    assert_nobody_answers(&lab, (VIP, 80));

    // The client may be about to give up asking for the VIP's MAC address.
    lab.client().ip("neigh flush dev eth0");
    let _lb = balance(&lab, SHOP);
    lab.client()
        .http()
        .get((VIP, 80), 100)
        .assert_all_succeeded();
}

#[test]
fn lb_stop_asks_for_the_socket_of_the_daemon_that_has_the_pins() {
    let lab = lab(1);
    let lb = balance(&lab, SHOP);
    let pins = lab.pin_path();
    let stop = format!(
        "stop --socket /nowhere/lb.sock --pin-path {}",
        pins.display()
    );
    let stop = lab.lb(&stop).unwrap();
    let error = String::from_utf8(stop.stderr).unwrap();
    assert_eq!(stop.status.code(), Some(1), "{error}");
    let words = [
        pins.to_str().unwrap(),
        "does not answer at /nowhere/lb.sock",
        "--socket",
    ];
    assert!(words.iter().all(|it| error.contains(it)), "{error}");
    lb.status().unwrap();
}

#[rstest]
fn lb_stop_leaves_what_is_not_its_own(#[values(false, true)] running: bool) {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let _lb = Some(balance(&lab, SHOP)).filter(|_| running);
    let foreign = lab.pin_path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    let stop = lab.lb("stop --config {config}").unwrap();
    let error = String::from_utf8(stop.stderr).unwrap();
    assert_eq!(stop.status.code(), Some(1), "{error}");
    assert!(error.contains("can't remove"), "{error}");
    assert!(!error.contains("refused"), "{error}");
    assert!(foreign.exists() && xdp_mode(lab.balancer(), "eth0").is_none());
}

#[rstest]
#[case::with_a_socket_of_somebody_else(true)]
#[case::at_its_second_interface(false)]
fn a_start_that_fails_leaves_nothing(#[case] socket_taken: bool) {
    let lab = lab(1);
    let _listener = socket_taken.then(|| UnixListener::bind(lab.socket()).unwrap());
    let mut config = lab.config(SHOP);
    let made = lab.directory().join("made");
    if !socket_taken {
        config = config.replace("/lb.sock", "/made/lb.sock");
        lab.balancer().ip(BRIDGE);
        let all = "interfaces: [{name: eth0}, {name: br0, xdp: native}, ";
        config = config.replace("interfaces: [", all);
        config = config.replace(", {name: eth0, xdp: auto}", "");
    }
    lab.write_config(&config).unwrap();
    let run = lab.lb("run --config {config}").unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(!lab.pin_path().exists());
    assert_eq!(lab.socket().exists(), socket_taken);
    assert!(!made.exists());
    assert_eq!(xdp_mode(lab.balancer(), "eth0"), None);
}

#[test]
fn a_start_that_fails_leaves_what_was_in_place() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    balance(&lab, SHOP).stop(Signal::SIGTERM).unwrap();
    add_cable(&lab, "cable");
    lab.balancer().ip(BRIDGE);
    let all = "interfaces: [{name: cable}, {name: br0, xdp: native}, ";
    let config = lab.config(SHOP).replace("interfaces: [", all);
    lab.write_config(&config).unwrap();
    let run = lab.lb("run --config {config}").unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(error.contains("br0 can't run XDP"), "{error}");
    assert_eq!(xdp_mode(lab.balancer(), "cable"), None);
    assert!(!lab.pin_path().join("links/cable").exists());
    let requests = lab.client().http().get((VIP, 80), 100);
    requests.assert_all_succeeded();
    balance(&lab, SHOP);
}

#[test]
fn an_interface_that_cannot_be_served_ends_a_start_before_all_else() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    add_cable(&lab, "cable");
    let _decap = lab.decapsulate_on(lab.balancer(), "cable", "").unwrap();
    for (interface, words) in [
        ("eth9", "interface eth9 does not exist"),
        ("cable", "another XDP program is attached to cable"),
    ] {
        let all = format!("interfaces: [{{name: {interface}}}, ");
        let config = lab.config(SHOP).replace("interfaces: [", &all);
        lab.write_config(&config).unwrap();
        let run = lab.lb("run --config {config}").unwrap();
        let error = String::from_utf8(run.stderr).unwrap();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn a_daemon_in_another_network_namespace_is_refused() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    balance(&lab, SHOP).stop(Signal::SIGTERM).unwrap();
    // The client has an eth0, too.
    let run = lab.lb_on(lab.client(), "run --config {config}").unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{error}");
    assert!(error.contains("another network namespace"), "{error}");
    assert_eq!(xdp_mode(lab.client(), "eth0"), None);
    let requests = lab.client().http().get((VIP, 80), 100);
    requests.assert_all_succeeded();
    balance(&lab, SHOP);
}

#[rstest]
fn a_daemon_that_wants_another_mode_is_refused(
    #[values(("generic", "native"), ("native", "generic"))] (attached, other): (&str, &str),
) {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    drop(balance_in_mode(&lab, SHOP, attached));
    let mode = xdp_mode(lab.balancer(), "eth0");
    let in_mode = |mode| {
        lab.config(SHOP)
            .replace("xdp: auto", &format!("xdp: {mode}"))
    };
    lab.write_config(&in_mode(other)).unwrap();
    let run = lab.lb("run --config {config}").unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{error}");
    let words = format!("attached to eth0 in {attached} mode, and {other} mode is asked for");
    assert!(error.contains(&words), "{error}");
    assert!(error.contains("`lb stop`"), "{error}");
    let requests = lab.client().http().get((VIP, 80), 100);
    requests.assert_all_succeeded();
    for accepted in ["auto", attached] {
        drop(balance_in_mode(&lab, SHOP, accepted));
        assert_eq!(xdp_mode(lab.balancer(), "eth0"), mode);
    }
}

#[test]
fn a_daemon_finds_its_link_at_an_interface_with_another_name() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    drop(balance(&lab, SHOP));
    lab.balancer().ip("link set dev eth0 down");
    lab.balancer().ip("link set dev eth0 name lan0");
    lab.balancer().ip("link set dev lan0 up");
    let config = lab.config(SHOP).replace("name: eth0", "name: lan0");
    lab.write_config(&config).unwrap();
    let run = lab.lb("run --config {config}").unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(!error.contains("another network namespace"), "{error}");
    assert!(error.contains("attached to lan0"), "{error}");
}
