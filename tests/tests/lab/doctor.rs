//! `lb doctor`, and what the daemon says of its host when it starts.

use std::process::Command;

use lb_tests::{Daemon, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    interfaces::xdp_mode,
    lifecycle::add_cable,
    support::{SHOP, VIP, lab, serve_http},
};

const CHECKED: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, forward: l3dsr, bind: [web], health: {checks: [icmp]}}
";

/// What was found, as `SEVERITY SUBJECT: MESSAGE`, and the exit status.
fn examine(lab: &Lab, config: &str) -> (Vec<String>, i32) {
    lab.write_config(config).unwrap();
    let output = lab.lb("doctor --json --config {config}").unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap().iter();
    let text = |finding: &Value| {
        let [severity, subject, message] =
            ["severity", "subject", "message"].map(|key| finding[key].as_str().unwrap());
        format!("{severity} {subject}: {message}")
    };
    (findings.map(text).collect(), output.status.code().unwrap())
}

#[track_caller]
fn assert_found(found: &[String], begin: &str, words: &str) {
    let is_it = |it: &String| it.starts_with(begin) && it.contains(words);
    assert!(found.iter().any(is_it), "no {begin} {words} in {found:#?}");
}

/// With a daemon and without.
#[test]
fn a_good_host_is_found_to_be_good_and_nothing_is_changed() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let (found, status) = examine(&lab, &lab.config(SHOP));
    assert_eq!(status, 0, "{found:#?}");
    assert_found(&found, "ok real servers", "all can be reached");
    assert_found(&found, "ok memory", "the tables take");
    // The other end of the pair is the lab's, and as it should be.
    let warnings: Vec<_> = found
        .iter()
        .filter(|it| it.starts_with("warning"))
        .collect();
    assert!(warnings.iter().all(|it| it.contains("veth")), "{found:#?}");
    assert!(!lab.pin_path().exists());
    assert_eq!(xdp_mode(lab.balancer(), "eth0"), None);

    let lb = Daemon::start(&lab, &lab.config(SHOP)).unwrap();
    let (found, status) = examine(&lab, &lab.config(SHOP));
    assert_eq!(status, 0, "{found:#?}");
    assert_found(&found, "ok pin_path", &format!("process {} runs", lb.pid()));
    let (found, status) = examine(&lab, &(lab.config(SHOP) + "limits: {sessions: 1000}\n"));
    assert_eq!(status, 0, "{found:#?}");
    assert_found(&found, "ok pin_path", "lb run replaces them");
    assert_found(&found, "ok memory", "the tables take");
    lab.client()
        .http()
        .get((VIP, 80), 50)
        .assert_all_succeeded();
}

#[test]
fn pins_that_go_with_ip_netns_exec_are_warned_of() {
    let lab = lab(1);
    lab.write_config(&lab.config(SHOP)).unwrap();
    let namespace = lab.balancer().namespace();
    let output = Command::new("ip")
        .args(["netns", "exec", namespace])
        .arg(lb_tests::binary().unwrap())
        .args(["doctor", "--config"])
        .arg(lab.config_file())
        .output()
        .unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let words = format!("use nsenter --net=/run/netns/{namespace}\n");
    let is_it = |line: &str| line.starts_with("warning  pin_path") && line.ends_with(&words);
    assert!(found.split_inclusive('\n').any(is_it), "{found}");
    let (found, _) = examine(&lab, &lab.config(SHOP));
    assert!(!found.iter().any(|it| it.contains("nsenter")), "{found:#?}");
}

#[test]
fn forwarding_without_a_daemon_is_told_of() {
    let lab = lab(1);
    let config = lab.config(SHOP);
    let lb = Daemon::spawn(&lab, &config).unwrap();
    lb.wait_until("it answers", |_| true).unwrap();
    let words = "forwarding goes on without a daemon";
    let (found, _) = examine(&lab, &config);
    assert!(!found.iter().any(|it| it.contains(words)), "{found:#?}");

    lb.stop(Signal::SIGTERM).unwrap();
    let (found, status) = examine(&lab, &config);
    assert_eq!(status, 0, "{found:#?}");
    assert_found(&found, "warning pin_path", words);
    let status = || {
        let output = lab.lb("status --config {config}").unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let (told, ended) = (status(), lab.lb("stop --config {config}").unwrap());
    assert!(ended.status.success() && told.contains(words), "{told}");
    assert!(!status().contains(words));
}

#[test]
fn what_stops_lb_or_is_in_its_way_is_found_and_told_by_the_daemon_too() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let host = lab.balancer();
    host.ip("addr add 10.9.1.1/32 dev lo");
    let range = [("ipv4/ip_local_port_range", "32768 65535")];
    host.sysctls(&range).unwrap();
    lab.unplug(lab.real_server(2));
    let in_the_way = [
        ("VIP 10.9.1.1", "ip addr del 10.9.1.1/32 dev lo"),
        ("net.ipv4.ip_local_port_range", "='32768 60999'"),
        ("MTU", "raise its MTU of 1500 to 1520"),
    ];
    let config = lab.config(CHECKED);
    let (found, status) = examine(&lab, &config);
    assert_eq!(status, 0, "{found:#?}");
    for (subject, words) in in_the_way {
        assert_found(&found, &format!("warning {subject}: "), words);
    }
    assert_found(&found, "warning web-2: ", "10.9.0.12");
    let lb = Daemon::spawn(&lab, &config).unwrap();
    lb.wait_until("it answers", |_| true).unwrap();
    let log = lab.log();
    for (subject, words) in in_the_way {
        let is_it = |it: &&str| it.contains(&format!("WARN {subject}: ")) && it.contains(words);
        assert_eq!(log.lines().filter(is_it).count(), 1, "{subject}: {log}");
    }

    add_cable(&lab, "cable");
    let _decap = lab.decapsulate_on(host, "cable", "").unwrap();
    let interfaces = "interfaces: [{name: cable}, {name: eth9}, ";
    let (found, status) = examine(&lab, &config.replace("interfaces: [", interfaces));
    assert_eq!(status, 1, "{found:#?}");
    assert_found(&found, "stops cable: ", "another XDP program");
    assert_found(&found, "stops eth9: ", "does not exist");
}
