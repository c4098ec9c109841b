//! L3 DSR: clients reach real servers on any network, through the tunnel to `lb decap`.

use std::{
    collections::BTreeSet,
    thread::{self, sleep},
    time::Duration,
};

use lb_tests::{Builder, Daemon, Lab, Report, named};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;

use crate::support::{
    SECOND_VIP, SECOND_VIP6, SHOP, TUNNELS, VIP, VIP6, VIPS, balance, balance_in_mode, decapsulate,
    lab, number, serve_http, serve_udp,
};

/// The pairs of families: the end of the virtual servers' names in [`TUNNELS`], and the VIP.
const FAMILIES: [(&str, &str); 4] = [
    ("4in4", VIP),
    ("6in6", VIP6),
    ("4in6", SECOND_VIP),
    ("6in4", SECOND_VIP6),
];

/// The sum of a counter of real servers, or of virtual servers.
fn sum(list: &Value, counter: &str) -> u64 {
    let list = list.as_array().unwrap();
    list.iter().map(|one| number(&one[counter])).sum()
}

/// How many packets came out of tunnels.
fn decapsulated(lab: &Lab) -> u64 {
    let by = |host| {
        let stats = lab.decap_stats(host, "eth0").unwrap();
        number(&stats["decapsulated"]["packets"])
    };
    lab.real_servers().iter().map(by).sum()
}

#[rstest]
#[case::next_to_the_balancer(Lab::builder().real_servers(3))]
#[case::behind_a_router(Lab::builder().real_servers(0).behind_router(3))]
#[case::everywhere(Lab::builder().real_servers(1).on_second_segment(1).behind_router(1))]
fn every_pair_of_families_is_served(
    #[case] lab: Builder,
    #[values("native", "generic")] mode: &str,
) {
    let lab = lab.build().unwrap();
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let _decap = decapsulate(&lab, "");
    let lb = balance_in_mode(&lab, TUNNELS, mode);
    for (name, vip) in FAMILIES {
        let report = lab.client().http().parallel(16).get((vip, 80), 200);
        report.assert_all_succeeded();
        assert_eq!(report.by_server().len(), 3, "{:?}", report.by_server());
        for reply in &report.replies {
            assert_eq!(reply.client_seen, reply.source, "{name}");
        }
        let answered = (0..50).map(|_| {
            let flow = lab.client().udp((vip, 53));
            let reply = flow.ask("0123456789").unwrap();
            assert_eq!(reply.client_seen, flow.source(), "{name}");
            reply.server
        });
        assert_eq!(answered.collect::<BTreeSet<_>>().len(), 3, "{name}");
    }

    let counted =
        |status: &Value| number(&named(&status["virtual_servers"], "udp-6in4")["packets"]) == 50;
    let status = lb.wait_until("all is counted", counted).unwrap();
    let all = &status["virtual_servers"];
    for (name, vip) in FAMILIES {
        let http = named(all, &format!("http-{name}"));
        // SYN, ACK, request and FIN at the least.
        assert!(number(&http["packets"]) >= 4 * 200, "{http:#}");
        assert_eq!(
            number(&http["packets"]),
            sum(&http["real_servers"], "packets")
        );
        assert_eq!(number(&http["bytes"]), sum(&http["real_servers"], "bytes"));
        let udp = named(all, &format!("udp-{name}"));
        // As they came, without the outer header.
        let length = if vip.contains(':') {
            14 + 40 + 8 + 10
        } else {
            14 + 20 + 8 + 10
        };
        assert_eq!(
            (number(&udp["packets"]), number(&udp["bytes"])),
            (50, 50 * length)
        );
    }
    // Every packet that was forwarded came out of its tunnel.
    let decapsulated =
        |host| number(&lab.decap_stats(host, "eth0").unwrap()["decapsulated"]["packets"]);
    let decapsulated: u64 = lab.real_servers().iter().map(decapsulated).sum();
    assert_eq!(decapsulated, sum(all, "packets"));
    let drops = status["drops"].as_object().unwrap();
    assert!(drops.values().all(|count| number(count) == 0), "{drops:?}");
}

#[test]
fn a_real_server_serves_with_and_without_a_tunnel() {
    let lab = lab(2);
    let _servers = (serve_http(&lab, &[80, 8080]), serve_udp(&lab, &[53]));
    let _decap = decapsulate(&lab, "");
    let lb = balance(
        &lab,
        "
- {name: plain, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web]}
- {name: tunnel, vip: 10.9.1.1, protocol: tcp, port: 8080, forward: l3dsr, bind: [web]}
- {name: plain6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, bind: [web6]}
- {name: tunnel6, vip: '2001:db8:9:1::1', protocol: tcp, port: 8080, forward: l3dsr, bind: [web6]}
- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}
- {name: dns-tunnel, vip: 10.9.1.2, protocol: udp, port: 53, forward: l3dsr, bind: [web]}
",
    );
    for (vip, port) in [(VIP, 80), (VIP, 8080), (VIP6, 80), (VIP6, 8080)] {
        let report = lab.client().http().parallel(8).get((vip, port), 200);
        report.assert_all_succeeded();
        assert_eq!(report.by_server().len(), 2);
    }
    for vip in [VIP, SECOND_VIP] {
        for _ in 0..20 {
            lab.client().udp((vip, 53)).ask("?").unwrap();
        }
    }
    let status = lb.status().unwrap();
    let packets = |name| number(&named(&status["virtual_servers"], name)["packets"]);
    assert_eq!([packets("dns"), packets("dns-tunnel")], [20, 20]);
    let tunnelled: u64 = ["tunnel", "tunnel6", "dns-tunnel"]
        .map(packets)
        .iter()
        .sum();
    assert_eq!(decapsulated(&lab), tunnelled);
}

#[rstest]
#[case::after_sigterm(Signal::SIGTERM)]
#[case::after_a_crash(Signal::SIGKILL)]
fn nothing_is_lost_while_lb_decap_ends_and_starts_again(#[case] end: Signal) {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let mut decap = decapsulate(&lab, "");
    let _lb = balance(&lab, TUNNELS);
    let report = thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let get = |vip| lab.client().http().parallel(8).get((vip, 80), 1000);
            VIPS.map(get)
                .into_iter()
                .fold(Report::default(), Report::and)
        });
        while !requests.is_finished() {
            decap.drain(..).for_each(|decap| {
                assert_eq!(decap.stop(end).unwrap().success(), end == Signal::SIGTERM);
            });
            sleep(Duration::from_millis(100));
            decap = decapsulate(&lab, "");
        }
        requests.join().unwrap()
    });
    report.assert_all_succeeded();
}

#[test]
fn nothing_is_lost_when_a_virtual_server_changes_to_a_tunnel_and_back() {
    let lab = lab(2);
    let _servers = serve_http(&lab, &[80]);
    let _decap = decapsulate(&lab, "");
    let plain = lab.config(SHOP);
    let tunnel = lab.config(&SHOP.replace("bind:", "forward: l3dsr, bind:"));
    let lb = Daemon::start(&lab, &plain).unwrap();
    let report = thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let get = |vip| lab.client().http().parallel(8).get((vip, 80), 2000);
            get(VIP).and(get(VIP6))
        });
        while !requests.is_finished() {
            for (config, forward) in [(&tunnel, "l3dsr"), (&plain, "l2dsr")] {
                lab.write_config(config).unwrap();
                let so = |status: &Value| {
                    named(&status["virtual_servers"], "shop")["forward"] == forward
                };
                lb.wait_until(forward, so).unwrap();
            }
        }
        requests.join().unwrap()
    });
    report.assert_all_succeeded();
    assert!(decapsulated(&lab) > 0);
}
