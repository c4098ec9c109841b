//! Real servers move, vanish and come back.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use lb_tests::{Daemon, Lab, Report, named};
use rstest::rstest;
use serde_json::Value;

use crate::support::{SHOP, VIP, balance, lab, number, serve_http};

/// Waits for this state of a real server of `shop`.
fn wait_for(lb: &Daemon, server: &str, state: &str) {
    let so = |status: &Value| {
        let shop = named(&status["virtual_servers"], "shop");
        named(&shop["real_servers"], server)["state"] == state
    };
    lb.wait_until(&format!("{server} is {state}"), so).unwrap();
}

fn ask(lab: &Lab) -> Report {
    lab.client()
        .http()
        .timeout(Duration::from_millis(500))
        .get((VIP, 80), 60)
}

#[test]
fn a_changed_mac_address_is_followed() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let _lb = balance(&lab, SHOP);
    ask(&lab).assert_all_succeeded();
    lab.real_server(2)
        .ip("link set dev eth0 address 02:00:00:00:00:99");
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&lab).by_server().len() < 2 {
        assert!(
            Instant::now() < deadline,
            "web-2 is not reached at its new address"
        );
        sleep(Duration::from_millis(100));
    }
    ask(&lab).assert_all_succeeded();
}

#[test]
fn a_vanished_real_server_gets_nothing_until_it_is_back() {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, SHOP);
    lab.unplug(lab.real_server(2));
    wait_for(&lb, "web-2", "down");
    let report = ask(&lab);
    report.assert_all_succeeded();
    assert_eq!(
        report.by_server().into_keys().collect::<Vec<_>>(),
        ["web-1", "web-3"]
    );

    lab.plug_in(lab.real_server(2));
    wait_for(&lb, "web-2", "up");
    let report = ask(&lab);
    report.assert_all_succeeded();
    assert_eq!(report.by_server().len(), 3);
}

#[test]
fn without_real_servers_a_virtual_server_is_down_and_drops_are_counted() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, SHOP);
    // The client learns the VIP's address, so that it sends to the balancer even when nobody answers.
    ask(&lab).assert_all_succeeded();
    lab.unplug(lab.real_server(1));
    wait_for(&lb, "web-1", "down");
    let status = lb.status().unwrap();
    assert_eq!(named(&status["virtual_servers"], "shop")["state"], "down");

    assert_eq!(
        lab.client()
            .http()
            .timeout(Duration::from_millis(300))
            .get((VIP, 80), 3)
            .replies
            .len(),
        0
    );
    let dropped = |status: &Value| status["drops"]["no_real_server"].as_u64() >= Some(3);
    lb.wait_until("three drops", dropped).unwrap();

    lab.plug_in(lab.real_server(1));
    wait_for(&lb, "web-1", "up");
    ask(&lab).assert_all_succeeded();
}

#[test]
fn a_real_server_that_was_off_from_the_start_joins_when_it_comes() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    lab.unplug(lab.real_server(2));
    let lb = Daemon::spawn(&lab, &lab.config(SHOP)).unwrap();
    let one_up = |status: &Value| named(&status["virtual_servers"], "shop")["state"] == "up";
    lb.wait_until("shop is up", one_up).unwrap();
    assert_eq!(
        ask(&lab).by_server().into_keys().collect::<Vec<_>>(),
        ["web-1"]
    );
    lab.plug_in(lab.real_server(2));
    wait_for(&lb, "web-2", "up");
    assert_eq!(ask(&lab).by_server().len(), 2);
}

#[test]
fn a_virtual_server_with_fewer_servers_up_than_it_needs_is_down() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(
        &lab,
        "- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web], minimum_up: 2}",
    );
    ask(&lab).assert_all_succeeded();
    lab.unplug(lab.real_server(2));
    wait_for(&lb, "web-2", "down");
    let status = lb.status().unwrap();
    let shop = named(&status["virtual_servers"], "shop");
    assert_eq!(shop["state"], "down");
    assert_eq!(named(&shop["real_servers"], "web-1")["state"], "up");
    let dropped = number(&status["drops"]["no_real_server"]);
    let client = lab.client().http().timeout(Duration::from_millis(300));
    assert_eq!(client.get((VIP, 80), 3).replies.len(), 0);
    let status = lb.status().unwrap();
    assert!(number(&status["drops"]["no_real_server"]) >= dropped + 3);

    lab.plug_in(lab.real_server(2));
    wait_for(&lb, "web-2", "up");
    let report = ask(&lab);
    report.assert_all_succeeded();
    assert_eq!(report.by_server().len(), 2);
}

#[rstest]
#[case::drained("drain: true")]
#[case::without_weight("weight: 0")]
fn a_draining_real_server_gets_no_new_flows(#[case] draining: &str) {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[80]);
    let binding = |web2: &str| {
        format!(
            "- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web-1, {web2}, web-3]}}"
        )
    };
    let lb = balance(&lab, &binding("web-2"));
    let answering = || ask(&lab).by_server().into_keys().collect::<Vec<_>>();
    assert_eq!(answering(), ["web-1", "web-2", "web-3"]);
    let drain = binding(&format!("{{server: web-2, {draining}}}"));
    lab.write_config(&lab.config(&drain)).unwrap();
    wait_for(&lb, "web-2", "draining");
    assert_eq!(answering(), ["web-1", "web-3"]);
    let status = lb.status().unwrap();
    assert_eq!(named(&status["virtual_servers"], "shop")["state"], "up");
    lab.write_config(&lab.config(&binding("web-2"))).unwrap();
    wait_for(&lb, "web-2", "up");
    assert_eq!(answering(), ["web-1", "web-2", "web-3"]);
}
