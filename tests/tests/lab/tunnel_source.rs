//! Source addresses of outer headers.

use std::{collections::BTreeSet, time::Duration};

use lb_tests::{Daemon, Lab, PacketSocket};
use rstest::rstest;

use crate::{
    frames::capsule,
    support::{TUNNELS, VIP, VIP6, balance, decapsulate, lab, number, serve_udp, wait_until},
};

const FLOWS: usize = 100;

#[rstest]
#[case::own_addresses("", "10.9.0.1/32", "2001:db8:9::1/128", 1)]
#[case::spread_over_prefixes(
    "tunnel: {source_v4: 10.200.0.0/24, source_v6: '2001:db8:200::/96'}",
    "10.200.0.0/24",
    "2001:db8:200::/96",
    FLOWS / 2
)]
fn outer_headers_come_from_the_balancers_addresses_or_are_spread(
    #[case] tunnel: &str,
    #[case] from_v4: &str,
    #[case] from_v6: &str,
    #[case] least: usize,
) {
    let lab = Lab::builder()
        .real_servers(0)
        .behind_router(1)
        .build()
        .unwrap();
    let _servers = serve_udp(&lab, &[53]);
    let _decap = decapsulate(&lab, &format!("--from {from_v4} --from {from_v6}"));
    let _lb = Daemon::start(&lab, &(lab.config(TUNNELS) + tunnel)).unwrap();
    for (vip, from) in [(VIP, from_v4), (VIP6, from_v6)] {
        let passing = PacketSocket::open(lab.router(), "eth0");
        for _ in 0..FLOWS {
            lab.client().udp((vip, 53)).ask("?").unwrap();
        }
        let next = || passing.receive(Duration::from_millis(100), |frame| capsule(frame).is_some());
        let sources: Vec<_> = std::iter::from_fn(next)
            .map(|frame| capsule(&frame).unwrap().outer[0])
            .collect();
        assert_eq!(sources.len(), FLOWS);
        let from: ipnet::IpNet = from.parse().unwrap();
        assert!(
            sources.iter().all(|source| from.contains(source)),
            "{sources:?}"
        );
        let different = sources.iter().collect::<BTreeSet<_>>().len();
        assert!(
            different >= least.min(FLOWS),
            "{different} source addresses of {from}"
        );
    }
    let stats = lab.decap_stats(lab.real_server(1), "eth0").unwrap();
    assert_eq!(number(&stats["decapsulated"]["packets"]), 2 * FLOWS as u64);
}

#[test]
fn outer_headers_come_from_the_balancers_new_address_when_it_has_changed() {
    let lab = lab(1);
    let _servers = serve_udp(&lab, &[53]);
    let _decap = decapsulate(&lab, "--from 10.9.0.2 --from 2001:db8:9::2");
    let _lb = balance(&lab, TUNNELS);
    let is_answered = |vip| lab.client().udp((vip, 53)).ask("?").is_ok();
    for (vip, old, new) in [
        (VIP, "10.9.0.1/16", "10.9.0.2/16"),
        (VIP6, "2001:db8:9::1/48", "2001:db8:9::2/48"),
    ] {
        assert!(!is_answered(vip));
        lab.balancer().ip(&format!("addr del {old} dev eth0"));
        lab.balancer().ip(&format!("addr add {new} dev eth0"));
        wait_until(&format!("packets come from {new}"), || is_answered(vip));
    }
}
