//! Answers take another way than requests: not past the balancer, and perhaps by another interface of the real server.

use lb_tests::Lab;
use rstest::rstest;

use crate::support::{VIP, balance, decapsulate, lab, serve_udp};

/// A cable from the first real server to the client, which the server's answers take.
fn plug_in_way_back(lab: &Lab) {
    const MAC: &str = "02:00:00:00:00:bb";
    let (client, server) = (lab.client(), lab.real_server(1));
    let far_end = format!("peer name back netns {}", server.namespace());
    client.ip(&format!("link add back address {MAC} type veth {far_end}"));
    client.ip("link set dev back up");
    server.ip("link set dev back up");
    let address = client.v4();
    server.ip(&format!("neigh add {address} lladdr {MAC} dev back"));
    server.ip(&format!("route add {address} dev back"));
}

/// A strict filter (RFC 3704 section 2.2) drops what comes in by another interface than answers leave by; a loose
/// one (section 2.4) does not.
#[rstest]
fn answers_by_another_interface_need_a_loose_reverse_path_filter(
    #[values("l2dsr", "l3dsr")] forward: &str,
    #[values(("0", true), ("1", false), ("2", true))] (rp_filter, answered): (&str, bool),
) {
    let lab = lab(1);
    let _servers = serve_udp(&lab, &[53]);
    let _decap = decapsulate(&lab, "");
    plug_in_way_back(&lab);
    let settings = ["all", "eth0"].map(|of| format!("ipv4/conf/{of}/rp_filter"));
    let settings = settings.each_ref().map(|key| (key.as_str(), rp_filter));
    lab.real_server(1).sysctls(&settings).unwrap();
    let _lb = balance(
        &lab,
        &format!(
            "- {{name: dns, vip: {VIP}, protocol: udp, port: 53, forward: {forward}, bind: [web]}}"
        ),
    );
    let answer = lab.client().udp((VIP, 53)).ask("?");
    assert_eq!(answer.is_ok(), answered, "{answer:?}");
}

/// The answers leave by the interface that the requests came in by.
#[rstest]
fn a_strict_reverse_path_filter_admits_what_is_answered_by_the_same_interface(
    #[values("l2dsr", "l3dsr")] forward: &str,
) {
    let lab = lab(1);
    let _servers = serve_udp(&lab, &[53]);
    let _decap = decapsulate(&lab, "");
    let strict = [("ipv4/conf/all/rp_filter", "1")];
    lab.real_server(1).sysctls(&strict).unwrap();
    let _lb = balance(
        &lab,
        &format!(
            "- {{name: dns, vip: {VIP}, protocol: udp, port: 53, forward: {forward}, bind: [web]}}"
        ),
    );
    lab.client().udp((VIP, 53)).ask("?").unwrap();
}
