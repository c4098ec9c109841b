//! The sorry server: it takes new sessions while too few others are up.

use std::{collections::BTreeMap, net::IpAddr};

use lb_tests::{Daemon, Lab, TcpClient, named};
use rstest::rstest;
use serde_json::Value;

use crate::support::{
    PATIENCE, VIP, VIP6, ask_all, balance_few, lab, open, serve_http, serve_tcp, wait_for_state,
};

/// In each family: virtual server, VIP, and what the sorry server is called.
const FAMILIES: [(&str, &str, &str); 2] = [("shop", VIP, "web-3"), ("shop6", VIP6, "web6-3")];

/// HTTP on port 80, connections that stay on port 81; the first two real servers are needed, and the third is sorry.
fn shops(settings: &str) -> String {
    let both = format!("protocol: tcp, port: [80, 81], minimum_up: 2, {settings}");
    format!(
        "
- {{name: shop, vip: 10.9.1.1, {both}, bind: [web-1, web-2], sorry: web-3}}
- {{name: shop6, vip: '2001:db8:9:1::1', {both}, bind: [web6-1, web6-2], sorry: web6-3}}
"
    )
}

/// Who answers new requests, none of which fails.
fn requests(lab: &Lab, vip: &str) -> BTreeMap<String, usize> {
    let report = lab.client().http().get((vip, 80), 40);
    report.assert_all_succeeded();
    report.by_server()
}

/// The row of a virtual server's sorry server, if it has one.
fn sorry<'a>(status: &'a Value, virtual_server: &str) -> Option<&'a Value> {
    let virtual_server = named(&status["virtual_servers"], virtual_server);
    let mut rows = virtual_server["real_servers"].as_array().unwrap().iter();
    rows.find(|row| row["sorry"] == true)
}

/// Waits until all sorry servers are in a state.
fn wait_for(lb: &Daemon, state: &str) {
    for (shop, _, sorry) in FAMILIES {
        wait_for_state(lb, shop, sorry, state);
    }
}

#[rstest]
fn it_takes_new_sessions_until_enough_others_are_back(
    #[values("hash", "round_robin", "least_connection")] predictor: &str,
    #[values(&[2], &[1, 2])] failed: &[usize],
) {
    let lab = lab(3);
    let _servers = (serve_http(&lab, &[80]), serve_tcp(&lab, &[81]));
    let lb = balance_few(&lab, &shops(&format!("predictor: {predictor}")));
    for (shop, vip, _) in FAMILIES {
        assert!(!requests(&lab, vip).contains_key("web-3"));
        assert_eq!(sorry(&lb.status().unwrap(), shop), None);
    }

    failed.iter().for_each(|&n| lab.unplug(lab.real_server(n)));
    wait_for(&lb, "up");
    let status = lb.status().unwrap();
    let on_sorry = FAMILIES.map(|(shop, vip, _)| {
        assert_eq!(named(&status["virtual_servers"], shop)["state"], "down");
        assert_eq!(
            requests(&lab, vip),
            BTreeMap::from([("web-3".to_owned(), 40)])
        );
        lab.client()
            .ping(vip.parse::<IpAddr>().unwrap(), PATIENCE)
            .unwrap();
        let on_sorry = open(&lab, (vip, 81), 2);
        assert_eq!(ask_all(&on_sorry), ["web-3", "web-3"]);
        on_sorry
    });
    let table = lab.lb("status --socket {socket}").unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let rows = table.lines().filter(|row| row.ends_with("  sorry server"));
    assert_eq!(rows.count(), 2, "{table}");

    failed.iter().for_each(|&n| lab.plug_in(lab.real_server(n)));
    wait_for(&lb, "draining");
    for ((_, vip, _), on_sorry) in FAMILIES.iter().zip(&on_sorry) {
        let others = requests(&lab, vip);
        assert_eq!(others.values().sum::<usize>(), 40);
        assert!(!others.contains_key("web-3"), "{others:?}");
        assert_eq!(ask_all(on_sorry), ["web-3", "web-3"]);
    }
    on_sorry.into_iter().flatten().for_each(TcpClient::reset);
    lb.wait_until("no sorry server has active sessions", |status| {
        let active = |shop| sorry(status, shop).map(|row| row["sessions"]["active"] == 0);
        FAMILIES
            .iter()
            .all(|(shop, ..)| active(shop).unwrap_or(true))
    })
    .unwrap();
}

#[test]
fn sticky_clients_go_there_and_back() {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance_few(&lab, &shops("sticky: {timeout: 10m}"));
    for (_, vip, _) in FAMILIES {
        assert_eq!(requests(&lab, vip).len(), 1, "one server for the client");
    }
    // The client's own, or the other one: too few are up either way.
    lab.unplug(lab.real_server(1));
    wait_for(&lb, "up");
    for (_, vip, _) in FAMILIES {
        assert_eq!(
            requests(&lab, vip),
            BTreeMap::from([("web-3".to_owned(), 40)])
        );
    }
    lab.plug_in(lab.real_server(1));
    wait_for(&lb, "draining");
    for (_, vip, _) in FAMILIES {
        let back = requests(&lab, vip);
        assert!(back.len() == 1 && !back.contains_key("web-3"), "{back:?}");
    }
}

#[test]
fn one_that_cannot_be_reached_is_shown_before_it_is_needed() {
    let lab = lab(3);
    let lb = balance_few(&lab, &shops("predictor: hash"));
    lab.unplug(lab.real_server(3));
    wait_for(&lb, "down");
    let status = lb.status().unwrap();
    assert_eq!(named(&status["virtual_servers"], "shop")["state"], "up");
    let sorry = sorry(&status, "shop").unwrap();
    assert_eq!(sorry["reason"], "no answer to ARP for 10.9.0.13 on eth0");

    lab.plug_in(lab.real_server(3));
    lb.wait_until("nothing to say of the sorry servers", |status| {
        FAMILIES
            .iter()
            .all(|(shop, ..)| self::sorry(status, shop).is_none())
    })
    .unwrap();
}
