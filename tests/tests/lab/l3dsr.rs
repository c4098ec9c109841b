//! L3 DSR: clients reach real servers on any network, through the tunnel to `lb decap`.

use std::collections::BTreeSet;

use lb_tests::{Builder, Daemon, Lab, named};
use rstest::rstest;
use serde_json::Value;

use crate::support::{
    SECOND_VIP, SECOND_VIP6, TUNNELS, VIP, VIP6, decapsulate, number, serve_http, serve_udp,
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
    let config = lab.config(TUNNELS);
    let config = config.replace("xdp: auto", &format!("xdp: {mode}"));
    let lb = Daemon::start(&lab, &config).unwrap();
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
