//! One interface or two, native or generic XDP.

use lb_tests::{Daemon, Host, Lab};
use rstest::rstest;
use serde_json::Value;

use crate::support::{DNS, SHOP, VIP, VIP6, lab, serve_http, serve_udp};

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
