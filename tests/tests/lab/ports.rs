//! Port lists, ranges, any, and which of them comes first.

use crate::support::{VIP, VIP6, assert_nobody_answers, balance, lab, serve_http, serve_udp};

#[test]
fn each_port_of_a_list_is_served_and_no_other() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80, 443, 8080]);
    let _lb = balance(
        &lab,
        "- {name: shop, vip: 10.9.1.1, protocol: tcp, port: [80, 443], bind: [web]}",
    );
    for port in [80, 443] {
        lab.client()
            .http()
            .get((VIP, port), 10)
            .assert_all_succeeded();
    }
    // The balancer's kernel gets it, has no such address, and does not forward.
    assert_nobody_answers(&lab, (VIP, 8080));
}

#[test]
fn an_exact_port_comes_before_a_range_and_a_range_before_any() {
    let lab = lab(3);
    let _servers = serve_http(&lab, &[79, 80, 8000, 8001, 8050, 8099, 8100, 8101, 65535]);
    let _lb = balance(
        &lab,
        "
- {name: any, vip: 10.9.1.1, protocol: tcp, port: any, bind: [web-1]}
- {name: range, vip: 10.9.1.1, protocol: tcp, port: '8000-8100', bind: [web-2]}
- {name: exact, vip: 10.9.1.1, protocol: tcp, port: [80, 8050], bind: [web-3]}
- {name: any6, vip: '2001:db8:9:1::1', protocol: tcp, port: any, bind: [web6-1]}
- {name: range6, vip: '2001:db8:9:1::1', protocol: tcp, port: '8000-8100', bind: [web6-2]}
- {name: exact6, vip: '2001:db8:9:1::1', protocol: tcp, port: [80, 8050], bind: [web6-3]}
",
    );
    for vip in [VIP, VIP6] {
        for (port, server) in [
            (79, "web-1"),
            (80, "web-3"),
            (8000, "web-2"),
            (8001, "web-2"),
            (8050, "web-3"),
            (8099, "web-2"),
            (8100, "web-2"),
            (8101, "web-1"),
            (65535, "web-1"),
        ] {
            let report = lab.client().http().get((vip, port), 3);
            assert_eq!(
                report.by_server(),
                [(server.to_owned(), 3)].into(),
                "{vip} port {port}: {report:?}"
            );
        }
    }
}

#[test]
fn udp_has_ranges_of_its_own() {
    let lab = lab(2);
    let _servers = (serve_http(&lab, &[5000]), serve_udp(&lab, &[5000, 5001]));
    let _lb = balance(
        &lab,
        "
- {name: udp, vip: 10.9.1.1, protocol: udp, port: '5000-5001', bind: [web-1]}
- {name: tcp, vip: 10.9.1.1, protocol: tcp, port: any, bind: [web-2]}
",
    );
    for port in [5000, 5001] {
        assert_eq!(
            lab.client().udp((VIP, port)).ask("?").unwrap().server,
            "web-1"
        );
    }
    assert_eq!(
        lab.client().http().get((VIP, 5000), 3).by_server(),
        [("web-2".to_owned(), 3)].into()
    );
}
