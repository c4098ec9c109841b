//! Health checks of each kind, by the data path and straight to the real servers: what each finds, and what it doesn't.

use std::{thread::sleep, time::Duration};

use lb_tests::{Daemon, Lab, named};
use serde_json::Value;

use crate::support::{PATIENCE, TUNNELS, balance, decapsulate, lab, serve_http, serve_udp};

/// All that an answer tells about the checks of a real server: kinds, and what is wrong.
fn checks(status: &Value, virtual_server: &str, server: &str) -> Vec<(String, bool, String)> {
    let virtual_server = named(&status["virtual_servers"], virtual_server);
    let server = named(&virtual_server["real_servers"], server);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = server["checks"].as_array().unwrap().iter();
    checks
        .map(|it| (text(&it["kind"]), it["ok"] == true, text(&it["message"])))
        .collect()
}

#[test]
fn trial() {
    let lab = Lab::builder().real_servers(2).build().unwrap();
    let _servers = serve_http(&lab, &[80]);
    let _udp = serve_udp(&lab, &[53]);
    let _decap = decapsulate(&lab, "");
    let health = "defaults: {health: {interval: 500ms, timeout: 400ms, checks: [arp, icmp, icmp: {via: real}, syn: {port: 80}, syn: {port: 80, via: real}]}}\n";
    let lb = Daemon::spawn(&lab, &(health.to_owned() + &lab.config(TUNNELS))).unwrap();
    sleep(Duration::from_secs(4));
    let status = lb.status().unwrap();
    for vs in status["virtual_servers"].as_array().unwrap() {
        let vs = vs["name"].as_str().unwrap();
        for server in ["web-1", "web6-1"] {
            if vs.ends_with('6') != server.contains('6') {
                continue;
            }
            for check in checks(&status, vs, server) {
                println!("{vs} {server} {check:?}");
            }
        }
    }
    println!("{}", lab.log());
    lab.keep();
    panic!();
}
