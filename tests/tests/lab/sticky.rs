//! Clients that stay on their real server across sessions.

use std::{net::IpAddr, thread::sleep, time::Duration};

use lb_tests::Lab;
use rstest::rstest;

use crate::support::{
    VIP, VIP6, balance_few, decapsulate, edit, lab, serve_tcp, tally, wait_for_state,
};

/// Virtual servers with a round robin for those who don't stick.
fn shops(settings: &str, [bound, bound6]: [&str; 2]) -> String {
    let both = format!("protocol: tcp, port: [80, 81], predictor: round_robin, {settings}");
    format!(
        "
- {{name: shop, vip: 10.9.1.1, {both}, bind: [{bound}]}}
- {{name: shop6, vip: '2001:db8:9:1::1', {both}, bind: [{bound6}]}}
"
    )
}

const ALL: [&str; 2] = ["web", "web6"];

/// Who serves the client's new session.
#[track_caller]
fn server(lab: &Lab, source: IpAddr, port: u16) -> String {
    let vip = if source.is_ipv4() { VIP } else { VIP6 };
    let connection = lab.client().tcp_from(source, (vip, port)).unwrap();
    connection.ask().unwrap()
}

/// The first address of the client in each family, with the name of the virtual server.
fn clients(lab: &Lab) -> [(&'static str, IpAddr); 2] {
    [("shop", lab.client().v4()), ("shop6", lab.client().v6())]
}

#[rstest]
fn a_client_stays_on_its_server_at_all_ports(#[values("l2dsr", "l3dsr")] forward: &str) {
    let lab = Lab::builder()
        .real_servers(3)
        .client_addresses(3)
        .build()
        .unwrap();
    let _servers = (serve_tcp(&lab, &[80, 81]), decapsulate(&lab, ""));
    let settings = format!("forward: {forward}, sticky: {{timeout: 1h}}");
    let _lb = balance_few(&lab, &shops(&settings, ALL));
    for prefix in ["10.9.0.", "2001:db8:9::"] {
        let first_servers = (100..103).map(|host| {
            let source = format!("{prefix}{host}").parse().unwrap();
            let servers = tally((0..10).map(|n| server(&lab, source, 80 + n % 2)));
            assert_eq!(servers.len(), 1, "{source}: {servers:?}");
            servers.into_keys().next().unwrap()
        });
        // The round robin is asked once for each client.
        assert_eq!(tally(first_servers).len(), 3);
    }
}

#[test]
fn clients_of_one_prefix_stay_together() {
    let lab = Lab::builder()
        .real_servers(3)
        .client_addresses(8)
        .build()
        .unwrap();
    let _servers = serve_tcp(&lab, &[80]);
    let sticky = "sticky: {timeout: 1h, prefix_v4: 30, prefix_v6: 126}";
    let _lb = balance_few(&lab, &shops(sticky, ALL));
    // 100 to 103 are one prefix; and in hexadecimal digits, 0x100 to 0x103 are, too.
    for prefix in ["10.9.0.", "2001:db8:9::"] {
        let servers = |hosts: std::ops::Range<u8>| {
            tally(hosts.map(|host| {
                let source = format!("{prefix}{host}").parse().unwrap();
                server(&lab, source, 80)
            }))
        };
        let (first, second) = (servers(100..104), servers(104..108));
        assert_eq!((first.len(), second.len()), (1, 1), "{first:?} {second:?}");
        assert_ne!(first, second);
    }
}

#[test]
fn a_client_is_remembered_since_it_was_last_seen() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let _lb = balance_few(&lab, &shops("sticky: {timeout: 3s}", ALL));
    for (_, source) in clients(&lab) {
        let vip = if source.is_ipv4() { VIP } else { VIP6 };
        let connection = lab.client().tcp_from(source, (vip, 80)).unwrap();
        let first = connection.ask().unwrap();
        // Packets of a session count, not only new sessions.
        for _ in 0..12 {
            sleep(Duration::from_millis(500));
            assert_eq!(connection.ask().unwrap(), first);
        }
        assert_eq!(server(&lab, source, 80), first);
        sleep(Duration::from_secs(6));
        assert_ne!(server(&lab, source, 80), first);
    }
}

#[test]
fn a_client_leaves_a_server_that_is_down_and_stays_on_the_next() {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let lb = balance_few(&lab, &shops("sticky: {timeout: 1h}", ALL));
    for (name, source) in clients(&lab) {
        let first = server(&lab, source, 80);
        let number = first.strip_prefix("web-").unwrap();
        let member = if source.is_ipv4() {
            first.clone()
        } else {
            format!("web6-{number}")
        };
        let host = lab.real_server(number.parse().unwrap());
        lab.unplug(host);
        wait_for_state(&lb, name, &member, "down");
        let second = server(&lab, source, 80);
        assert_ne!(second, first);
        lab.plug_in(host);
        wait_for_state(&lb, name, &member, "up");
        let servers = tally((0..6).map(|_| server(&lab, source, 80)));
        assert_eq!(servers, [(second, 6)].into());
    }
}

#[rstest]
#[case::unbound("")]
#[case::drained(", {server: web-1, drain: true}")]
#[case::without_weight(", {server: web-1, weight: 0}")]
fn a_client_leaves_a_server_that_takes_no_sessions(#[case] web1: &str) {
    let lab = lab(3);
    let _servers = serve_tcp(&lab, &[80]);
    let sticky = "sticky: {timeout: 1h}";
    let lb = balance_few(&lab, &shops(sticky, ALL));
    let firsts = clients(&lab).map(|(_, source)| server(&lab, source, 80));
    assert_eq!(firsts, ["web-1", "web-1"]);
    let bound = format!("web-2, web-3{web1}");
    let bound6 = bound.replace("web-", "web6-");
    edit(&lab, &lb, &shops(sticky, [&bound, &bound6]));
    let seconds = clients(&lab).map(|(_, source)| server(&lab, source, 80));
    assert!(
        seconds.iter().all(|server| server != "web-1"),
        "{seconds:?}"
    );
    edit(&lab, &lb, &shops(sticky, ALL));
    for ((_, source), second) in clients(&lab).into_iter().zip(seconds) {
        let servers = tally((0..6).map(|_| server(&lab, source, 80)));
        assert_eq!(servers, [(second, 6)].into());
    }
}
