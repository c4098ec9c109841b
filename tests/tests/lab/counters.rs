//! What `lb status --json` says agrees with what the clients did.

use std::{collections::BTreeMap, fs};

use lb_tests::{Daemon, named};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{DNS, SHOP, VIP, VIP6, balance, lab, number, serve_http, serve_udp};

/// The sum of a counter over a virtual server's real servers.
fn sum(virtual_server: &Value, counter: &str) -> u64 {
    virtual_server["real_servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| number(&one[counter]))
        .sum()
}

#[test]
fn every_datagram_is_counted_once_where_it_went() {
    let lab = lab(3);
    let _servers = serve_udp(&lab, &[53]);
    let lb = balance(&lab, DNS);
    // Ethernet, IP and UDP headers around 10 bytes.
    for (name, prefix, vip, length) in [
        ("dns", "web", VIP, 14 + 20 + 8 + 10),
        ("dns6", "web6", VIP6, 14 + 40 + 8 + 10),
    ] {
        let mut asked = BTreeMap::<String, u64>::new();
        for _ in 0..100 {
            let flow = lab.client().udp((vip, 53));
            for _ in 0..3 {
                *asked
                    .entry(flow.ask("0123456789").unwrap().server)
                    .or_default() += 1;
            }
        }
        let status = lb
            .wait_until("300 packets", |status| {
                named(&status["virtual_servers"], name)["packets"] == 300
            })
            .unwrap();
        let dns = named(&status["virtual_servers"], name);
        assert_eq!(number(&dns["bytes"]), 300 * length);
        for (server, packets) in asked {
            let server = named(&dns["real_servers"], &server.replace("web", prefix));
            assert_eq!(
                (number(&server["packets"]), number(&server["bytes"])),
                (packets, packets * length),
                "{server}"
            );
        }
    }
}

#[test]
fn real_servers_add_up_to_their_virtual_server() {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[80]);
    let lb = balance(&lab, SHOP);
    for vip in [VIP, VIP6] {
        lab.client()
            .http()
            .parallel(16)
            .get((vip, 80), 500)
            .assert_all_succeeded();
    }
    let status = lb.status().unwrap();
    for name in ["shop", "shop6"] {
        let shop = named(&status["virtual_servers"], name);
        // SYN, ACK, request and FIN at the least.
        assert!(number(&shop["packets"]) >= 4 * 500, "{shop:#}");
        assert_eq!(number(&shop["packets"]), sum(shop, "packets"));
        assert_eq!(number(&shop["bytes"]), sum(shop, "bytes"));
    }
}

#[test]
fn a_server_of_two_virtual_servers_is_counted_for_each() {
    let lab = lab(1);
    let _servers = serve_udp(&lab, &[53, 54]);
    let lb = balance(
        &lab,
        "
- {name: one, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web-1]}
- {name: two, vip: 10.9.1.1, protocol: udp, port: 54, bind: [web-1]}
",
    );
    for (port, count) in [(53, 5), (54, 7)] {
        (0..count).for_each(|_| drop(lab.client().udp((VIP, port)).ask("?").unwrap()));
    }
    let status = lb
        .wait_until("12 packets", |status| {
            named(&status["virtual_servers"], "two")["packets"] == 7
        })
        .unwrap();
    for (name, count) in [("one", 5), ("two", 7)] {
        let one = named(&status["virtual_servers"], name);
        assert_eq!(
            (number(&one["packets"]), sum(one, "packets")),
            (count, count)
        );
    }
}

/// For the next daemon, too.
#[test]
fn what_an_unbound_server_counted_stays_with_its_virtual_server() {
    let lab = lab(2);
    let _servers = serve_udp(&lab, &[53]);
    let lb = balance(
        &lab,
        "
- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web-1, web-2]}
",
    );
    // Each from a port of its own.
    let flows: Vec<_> = (0..21).map(|_| lab.client().udp((VIP, 53))).collect();
    let dns = |status: &Value| named(&status["virtual_servers"], "dns").clone();
    let counted =
        |dns: &Value| [&dns["packets"], &dns["bytes"], &dns["sessions"]["total"]].map(number);
    for flow in &flows[..20] {
        flow.ask("?").unwrap();
    }
    let status = lb.wait_until("20 packets", |status| dns(status)["packets"] == 20);
    let before = dns(&status.unwrap());
    let left = number(&named(&before["real_servers"], "web-2")["packets"]);
    assert!(left < 20, "{before:#}");

    let unbound = lab.lb("unbind dns web-1 --now --socket {socket}").unwrap();
    assert!(unbound.status.success(), "{unbound:?}");
    let status = lb.wait_until("web-1 is gone", |status| {
        dns(status)["real_servers"].as_array().unwrap().len() == 1
    });
    let after = dns(&status.unwrap());
    assert_eq!(counted(&after), counted(&before));
    assert_eq!(sum(&after, "packets"), left);

    lb.stop(Signal::SIGKILL).unwrap();
    let config = fs::read_to_string(lab.config_file()).unwrap();
    let lb = Daemon::start(&lab, &config).unwrap();
    flows[20].ask("?").unwrap();
    let status = lb.wait_until("21 packets", |status| dns(status)["packets"] == 21);
    assert_eq!(counted(&dns(&status.unwrap()))[2], 21);
}
