//! What does not fit: senders learn the path MTU, and everything arrives.

use std::time::Duration;

use lb_tests::{Host, HttpClient, Lab, Namespace};
use rstest::rstest;

use crate::support::{
    PATIENCE, SECOND_VIP, SECOND_VIP6, TUNNELS, VIP, VIP6, VIPS, balance, balance_in_mode,
    decapsulate, number, serve_http, wait_until,
};

const TEN_MB: usize = 10_000_000;

/// What fits into the tunnel of each VIP of [`TUNNELS`], where the way to the real servers takes `mtu`.
fn inner_mtus(mtu: u32) -> [(&'static str, u32); 4] {
    [
        (VIP, mtu - 20),
        (VIP6, mtu - 40),
        (SECOND_VIP, mtu - 40),
        (SECOND_VIP6, mtu - 20),
    ]
}

/// The path MTU that a host has learnt.
pub fn path_mtu(host: &Namespace, to: &str) -> Option<u32> {
    let route = host.ip(&format!("route get {to}"));
    let (_, mtu) = route.split_once("mtu ")?;
    let mtu = mtu.strip_prefix("lock ").unwrap_or(mtu);
    Some(mtu.split_whitespace().next()?.parse().unwrap())
}

fn forget_path_mtus(host: &Namespace) {
    host.ip("-4 route flush cache");
    host.ip("-6 route flush cache");
}

fn http(lab: &Lab) -> HttpClient<'_> {
    lab.client().http().timeout(PATIENCE)
}

fn upload(lab: &Lab, vip: &str, length: usize) {
    let report = http(lab).upload(length).get((vip, 80), 1);
    report.assert_all_succeeded();
    assert_eq!(report.replies[0].received, length);
}

fn lab() -> Lab {
    Lab::builder()
        .real_servers(1)
        .behind_router(1)
        .build()
        .unwrap()
}

#[rstest]
fn a_large_upload_finds_the_mtu_of_the_tunnel_and_a_large_download_needs_none(
    #[values("native", "generic")] mode: &str,
) {
    let lab = lab();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let lb = balance_in_mode(&lab, TUNNELS, mode);
    for (vip, mtu) in inner_mtus(1500) {
        let report = http(&lab)
            .path(format!("/bytes/{TEN_MB}"))
            .get((vip, 80), 1);
        report.assert_all_succeeded();
        assert_eq!(report.replies[0].length, TEN_MB);
        assert_eq!(path_mtu(lab.client(), vip), None);

        upload(&lab, vip, TEN_MB);
        assert_eq!(path_mtu(lab.client(), vip), Some(mtu), "{vip}");
    }
    assert!(number(&lb.status().unwrap()["drops"]["too_big"]) >= 4);
}

#[test]
fn a_large_upload_arrives_without_path_mtu_discovery() {
    let lab = lab();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let lb = balance(&lab, TUNNELS);
    // TCP sends without "don't fragment", and takes no MTU from ICMP: it falls back to the smallest.
    let off = [("ipv4/ip_no_pmtu_disc", "1")];
    lab.client().sysctls(&off).unwrap();
    for vip in [VIP, SECOND_VIP] {
        upload(&lab, vip, TEN_MB);
    }
    assert!(number(&lb.status().unwrap()["drops"]["too_big"]) > 0);
}

#[test]
fn with_advmss_on_the_real_servers_no_packet_is_too_big() {
    let lab = lab();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let lb = balance(&lab, TUNNELS);
    let [beside, behind] = [1, 2].map(|number| lab.real_server(number));
    // 1500 without an outer IPv6 header, without the inner IP header, without TCP's.
    beside.ip("-4 route change 10.9.0.0/16 dev eth0 advmss 1420");
    beside.ip("-6 route change 2001:db8:9::/48 dev eth0 metric 256 advmss 1400");
    behind.ip("-4 route change default via 10.11.0.254 advmss 1420");
    behind.ip("-6 route change default via 2001:db8:b::254 advmss 1400");
    for vip in VIPS {
        let report = http(&lab).upload(1_000_000).get((vip, 80), 8);
        report.assert_all_succeeded();
        assert_eq!(report.by_server().len(), 2);
        assert_eq!(path_mtu(lab.client(), vip), None);
    }
    let drops = &lb.status().unwrap()["drops"];
    assert_eq!(drops["too_big"], 0);
    assert_eq!(drops["too_big_unanswered"], 0);
}

#[test]
fn the_mtu_of_the_way_to_the_real_servers_is_followed() {
    let lab = Lab::builder()
        .real_servers(0)
        .behind_router(1)
        .build()
        .unwrap();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let _lb = balance(&lab, TUNNELS);
    for mtu in [1400, 1330, 1450] {
        let way = |network, router| {
            let route = format!("route change {network} via {router} mtu {mtu}");
            lab.balancer().ip(&route);
        };
        way("10.11.0.0/16", lab.router().v4());
        way("2001:db8:b::/48", lab.router().v6());
        for (vip, mtu) in inner_mtus(mtu) {
            wait_until("the client learns the new MTU", || {
                forget_path_mtus(lab.client());
                upload(&lab, vip, 100_000);
                path_mtu(lab.client(), vip) == Some(mtu)
            });
        }
    }
}

#[test]
fn a_smaller_mtu_further_along_the_way_to_the_real_servers_is_learnt() {
    const MTU: u32 = 1400;
    let lab = Lab::builder()
        .real_servers(0)
        .behind_router(1)
        .build()
        .unwrap();
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let _lb = balance(&lab, TUNNELS);
    let server = lab.real_server(1);
    for address in [server.v4(), server.v6()] {
        let far = lab.router().ip(&format!("route get {address}"));
        let device = far.split_once("dev ").unwrap().1;
        let device = device.split_whitespace().next().unwrap();
        lab.router()
            .ip(&format!("route add {address} dev {device} mtu lock {MTU}"));
    }
    for (vip, mtu) in inner_mtus(MTU) {
        wait_until("the client learns the MTU of the whole way", || {
            forget_path_mtus(lab.client());
            let report = lab
                .client()
                .http()
                .timeout(Duration::from_secs(5))
                .upload(100_000)
                .get((vip, 80), 1);
            report.failures.is_empty() && path_mtu(lab.client(), vip) == Some(mtu)
        });
        upload(&lab, vip, TEN_MB);
    }
}

/// Adds routes to the VIPs by way of the balancer's own address, as where VIPs are on no link.
fn route_vips(router: &Host, balancer: &Host) {
    router.ip(&format!("route add 10.9.1.0/24 via {}", balancer.v4()));
    router.ip(&format!(
        "route add 2001:db8:9:1::/64 via {}",
        balancer.v6()
    ));
}

#[rstest]
fn a_real_server_learns_the_mtu_on_the_clients_side(
    #[values("l2dsr", "l3dsr")] forward: &str,
    #[values(false, true)] routed_vips: bool,
) {
    const MTU: u16 = 1300;
    let lab = Lab::builder()
        .real_servers(3)
        .client_behind_router(MTU)
        .build()
        .unwrap();
    if routed_vips {
        route_vips(lab.client_router(), lab.balancer());
    }
    let _servers = (serve_http(&lab, &[80]), decapsulate(&lab, ""));
    let (vips, config) = match forward {
        "l2dsr" => (&VIPS[..2], TUNNELS.replace("l3dsr", "l2dsr")),
        _ => (&VIPS[..], TUNNELS.into()),
    };
    let config = config
        .lines()
        .filter(|line| vips.iter().any(|vip| line.contains(vip)));
    let _lb = balance(&lab, &config.collect::<Vec<_>>().join("\n"));
    for &vip in vips {
        let client = if vip.contains(':') {
            lab.client().v6()
        } else {
            lab.client().v4()
        };
        lab.real_servers()
            .iter()
            .for_each(|server| forget_path_mtus(server));
        let report = http(&lab)
            .path(format!("/bytes/{TEN_MB}"))
            .get((vip, 80), 1);
        report.assert_all_succeeded();
        assert_eq!(report.replies[0].length, TEN_MB);
        for server in lab.real_servers() {
            let answered = server.name() == report.replies[0].server;
            assert_eq!(
                path_mtu(server, &client.to_string()),
                answered.then_some(MTU.into()),
                "{vip} {}",
                server.name()
            );
        }
    }
}
