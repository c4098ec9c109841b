//! One interface or two, native or generic XDP.

use lb_tests::{Daemon, Host, Lab};
use rstest::rstest;
use serde_json::Value;

use crate::{
    lifecycle::add_cable,
    support::{DNS, SHOP, VIP, VIP6, lab, serve_http, serve_udp, wait_until},
};

/// `XDP_ATTACHED_*` of linux/if_link.h.
const NATIVE: u64 = 1;
const GENERIC: u64 = 2;

/// How XDP is attached to a device; `None` if it is not.
pub fn xdp_mode(host: &Host, device: &str) -> Option<u64> {
    let links: Value =
        serde_json::from_str(&host.ip(&format!("-j link show dev {device}"))).unwrap();
    links[0]["xdp"]["mode"].as_u64()
}

#[rstest]
#[case::auto("auto", NATIVE)]
#[case::native("native", NATIVE)]
#[case::generic("generic", GENERIC)]
fn every_mode_forwards(#[case] mode: &str, #[case] attached: u64) {
    let lab = lab(2);
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let config = lab
        .config(&[SHOP, DNS].concat())
        .replace("xdp: auto", &format!("xdp: {mode}"));
    let _lb = Daemon::start(&lab, &config).unwrap();
    assert_eq!(xdp_mode(lab.balancer(), "eth0"), Some(attached));
    for vip in [VIP, VIP6] {
        let report = lab.client().http().parallel(16).get((vip, 80), 300);
        report.assert_all_succeeded();
        assert_eq!(report.by_server().len(), 2);
        lab.client().udp((vip, 53)).ask("?").unwrap();
    }
}

#[rstest]
fn a_real_server_behind_a_second_interface_is_reached(#[values("auto", "generic")] mode: &str) {
    let lab = Lab::builder()
        .real_servers(1)
        .on_second_segment(2)
        .build()
        .unwrap();
    let _servers = (serve_http(&lab, &[80]), serve_udp(&lab, &[53]));
    let config = lab
        .config(&[SHOP, DNS].concat())
        .replace("xdp: auto", &format!("xdp: {mode}"));
    let _lb = Daemon::start(&lab, &config).unwrap();
    for vip in [VIP, VIP6] {
        let report = lab.client().http().parallel(16).get((vip, 80), 300);
        report.assert_all_succeeded();
        assert_eq!(report.by_server().len(), 3, "{:?}", report.by_server());
        lab.client().udp((vip, 53)).ask("?").unwrap();
    }
}

#[test]
fn an_interface_that_is_back_is_served_while_another_is_missing() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let host = lab.balancer();
    for name in ["gone", "back"] {
        add_cable(&lab, name);
    }
    let interfaces = "interfaces: [{name: gone}, {name: back}, ";
    let config = lab.config(SHOP).replace("interfaces: [", interfaces);
    let _lb = Daemon::start(&lab, &config).unwrap();
    let said = || lab.log().matches("interface gone does not exist").count();
    for name in ["gone", "back"] {
        host.ip(&format!("link del {name}"));
    }
    wait_until("it is noticed", || said() > 0);
    add_cable(&lab, "back");
    wait_until("it is served again", || xdp_mode(host, "back").is_some());
    assert_eq!(said(), 1, "{}", lab.log());
}
