//! Changes on the way to real servers behind a router, under traffic.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::Duration,
};

use ipnet::IpNet;
use lb_tests::{Lab, PacketSocket, Report, named};
use serde_json::Value;

use crate::{
    frames::capsule,
    support::{PATIENCE, StopAtEnd, TUNNELS, VIPS, balance, decapsulate, serve_http, wait_until},
};

fn behind_router() -> Lab {
    Lab::builder()
        .real_servers(0)
        .behind_router(2)
        .client_behind_router(1500)
        .build()
        .unwrap()
}

#[test]
fn a_routers_new_mac_address_is_followed() {
    let lab = behind_router();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let _lb = balance(&lab, TUNNELS);
    let ask = |vip| {
        let http = lab.client().http().timeout(Duration::from_millis(500));
        http.get((vip, 80), 4)
    };
    VIPS.into_iter()
        .for_each(|vip| ask(vip).assert_all_succeeded());
    lab.router()
        .ip("link set dev eth0 address 02:00:00:00:00:99");
    wait_until("the new MAC address is used", || {
        VIPS.into_iter().all(|vip| ask(vip).failures.is_empty())
    });
}

#[test]
fn real_servers_behind_a_dead_router_get_nothing_until_it_is_back() {
    let lab = Lab::builder()
        .real_servers(1)
        .behind_router(2)
        .build()
        .unwrap();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let lb = balance(&lab, TUNNELS);
    let wait_for = |state: &str| {
        let so = |status: &Value| {
            ["http-4in4", "http-6in6", "http-4in6", "http-6in4"]
                .iter()
                .all(|name| {
                    let servers = &named(&status["virtual_servers"], name)["real_servers"];
                    (1..3).all(|index| servers[index]["state"] == state)
                })
        };
        lb.wait_until(&format!("the servers behind the router are {state}"), so)
            .unwrap()
    };
    lab.unplug(lab.router());
    let status = wait_for("down");
    let servers = &named(&status["virtual_servers"], "http-4in4")["real_servers"];
    assert_eq!(
        servers[1]["reason"],
        "no answer to ARP for 10.9.0.254 on eth0"
    );
    for vip in VIPS {
        let report = lab.client().http().get((vip, 80), 20);
        report.assert_all_succeeded();
        assert_eq!(report.by_server(), [("web-1".to_owned(), 20)].into());
    }
    lab.plug_in(lab.router());
    wait_for("up");
    for vip in VIPS {
        let report = lab.client().http().get((vip, 80), 40);
        report.assert_all_succeeded();
        assert_eq!(report.by_server().len(), 3);
    }
}

/// Sends requests to every VIP until told to stop.
fn get_until(lab: &Lab, stop: &AtomicBool) -> Report {
    let mut report = Report::default();
    while !stop.load(Ordering::Relaxed) {
        for vip in VIPS {
            report = report.and(lab.client().http().parallel(4).get((vip, 80), 20));
        }
    }
    report
}

#[test]
fn a_route_that_moves_to_another_router_is_followed_without_a_loss() {
    let lab = behind_router();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let _lb = balance(&lab, TUNNELS);
    let (router, other) = (lab.router(), lab.client_router());
    // It passes packets on to the router, on the link that they came by.
    let silent = [
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/eth0/send_redirects", "0"),
    ];
    other.sysctls(&silent).unwrap();
    // Made from the MAC address of the router's first interface (RFC 4291 appendix A).
    let link_local = "fe80::aff:fe09:fe dev eth0";
    let done = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let requests = scope.spawn(|| get_until(&lab, &done));
        for (network, via, next_hop) in [
            ("10.11.0.0/16", "10.9.0.253", other),
            ("2001:db8:b::/48", "2001:db8:9::253", other),
            // A gateway of IPv6 for IPv4, too (RFC 8950).
            ("10.11.0.0/16", &format!("inet6 {link_local}"), router),
            ("2001:db8:b::/48", link_local, router),
        ] {
            let arrived = PacketSocket::open(next_hop, "eth0");
            lab.balancer()
                .ip(&format!("route change {network} via {via}"));
            let network: IpNet = network.parse().unwrap();
            let by_this_way = |frame: &[u8]| {
                capsule(frame).is_some_and(|capsule| {
                    let [_, server] = capsule.outer;
                    capsule.destination_mac == next_hop.mac() && network.contains(&server)
                })
            };
            let frame = arrived.receive(PATIENCE, by_this_way);
            assert!(frame.is_some(), "nothing for {network} by way of {via}");
        }
        sleep(Duration::from_millis(500));
        drop(stop);
        requests.join().unwrap()
    });
    report.assert_all_succeeded();
    assert_eq!(lab.client().tcp_retransmissions(), 0);
}
