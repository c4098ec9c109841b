//! What health checks make of answers: those of filters, of servers that flap, of name servers and of TLS.

use rstest::rstest;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use lb_tests::{Daemon, Host, HttpServer, HttpsServer, UdpServer};
use serde_json::Value;

use crate::{
    checks::{CAME_UP, WAYS, WENT_DOWN, Way, checking, real_server, refuse},
    support::{VIP6, VIPS, decapsulate, lab, serve_http, wait_until},
};

const SLOW: &str = "interval: 1500ms, timeout: 1400ms, rise: 1, fall: 2";
const FAST: &str = "interval: 200ms, timeout: 200ms, rise: 1, fall: 2";

/// Waits until a check of the first real server says this of its last answer.
#[track_caller]
fn wait_for_message(lb: &Daemon<'_>, way: Way, check: usize, words: &str) {
    let says = |status: &Value| message(status, way, check).starts_with(words);
    let what = format!("{}: {words}", way.virtual_server);
    lb.wait_until(&what, says).unwrap();
}

fn message(status: &Value, way: Way, check: usize) -> &str {
    real_server(status, way, 1)["checks"][check]["message"]
        .as_str()
        .unwrap()
}

/// The kernel tells a connection only what comes of a SYN after the call that sent it: here, of the second one, after a
/// second. Wires are longer than those of the lab.
#[test]
fn a_filter_that_says_so_is_told_from_one_that_is_silent() {
    let lab = lab(1);
    let server = lab.real_server(1);
    let _servers = serve_http(&lab, &[8080]);
    let ways = &WAYS[..2];
    let lb = Daemon::start(&lab, &checking(&lab, SLOW, "syn, tcp", ways)).unwrap();
    // Only routers answer for a route that is prohibited, and the kernel doesn't always.
    let loud = [
        ("ipv4/ip_forward", "1"),
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
    ];
    server.sysctls(&loud).unwrap();
    for family in ["-4", "-6"] {
        refuse(server, family, "prohibit");
    }
    let says = |address| format!("administratively prohibited (says {address})");
    let reasons = [
        [says(server.v4()), "no route to host".to_owned()],
        [
            says(VIP6.parse().unwrap()),
            "administratively prohibited".to_owned(),
        ],
    ];
    for (way, reasons) in ways.iter().zip(reasons) {
        let target = SocketAddr::new(way.vip.parse().unwrap(), way.port);
        let target = format!("{target} through {}", way.server(1));
        for (check, reason) in reasons.iter().enumerate() {
            let words = format!("{target} is unreachable: {reason}");
            wait_for_message(&lb, *way, check, &words);
        }
    }
}

#[test]
fn a_flapping_http_server_changes_its_state_no_faster_than_rise_and_fall() {
    let lab = lab(1);
    let web = HttpServer::start(lab.real_server(1), &[8080]);
    let settings = "interval: 1s, timeout: 1s, rise: 2, fall: 3";
    let lb = Daemon::start(&lab, &checking(&lab, settings, "http", &WAYS[..1])).unwrap();
    let at_first = lab.log().matches(CAME_UP).count();
    let changes = || {
        let log = lab.log();
        log.matches(WENT_DOWN).count() + log.matches(CAME_UP).count() - at_first
    };
    let after = |requests| wait_until("more requests", || web.requests() > requests);

    // Two failures, and a success.
    web.set_status(|n| if n % 3 == 2 { 200 } else { 500 });
    after(12);
    assert_eq!(changes(), 0, "{}", lab.log());

    web.set_status(|_| 500);
    let reason = "status 500 (expected 200-399) from 10.9.1.1:8080 through web-1 (3 in a row)";
    let is_down = |status: &Value| real_server(status, WAYS[0], 1)["reason"] == reason;
    lb.wait_until(reason, is_down).unwrap();
    assert_eq!(changes(), 1, "{}", lab.log());
    web.set_status(|n| if n % 2 == 0 { 200 } else { 500 });
    after(10);
    assert_eq!(changes(), 1, "{}", lab.log());

    web.set_status(|_| 200);
    let is_up = |status: &Value| real_server(status, WAYS[0], 1)["state"] == "up";
    lb.wait_until("web-1 is up", is_up).unwrap();
    assert_eq!(changes(), 2, "{}", lab.log());
}

#[rstest]
#[case("http")]
#[case("http: {via: real}")]
fn a_machine_that_comes_back_is_up_when_its_service_is(#[case] check: &str) {
    let lab = lab(1);
    let host = lab.real_server(1);
    let web = HttpServer::start(host, &[8080]);
    // Its checks alone would take very long to find it dead.
    let settings = "interval: 500ms, timeout: 400ms, fall: 100";
    let lb = Daemon::start(&lab, &checking(&lab, settings, check, &WAYS[..1])).unwrap();
    let came_up = || lab.log().matches(CAME_UP).count();
    let before = came_up();
    let says = |status: &Value, words: &str| {
        let server = real_server(status, WAYS[0], 1);
        server["reason"].as_str().unwrap().starts_with(words)
    };
    lab.unplug(host);
    lb.wait_until("web-1 is gone", |it| says(it, "no answer to ARP"))
        .unwrap();
    drop(web);
    lab.plug_in(host);
    lb.wait_until("web-1 refuses", |it| says(it, "connection refused"))
        .unwrap();
    assert_eq!(came_up(), before, "{}", lab.log());
    let _web = HttpServer::start(host, &[8080]);
    let is_up = |status: &Value| real_server(status, WAYS[0], 1)["state"] == "up";
    lb.wait_until("web-1 is up", is_up).unwrap();
}

/// A name server on all addresses that has no records, and this to say of them (RFC 1035 section 4.1.1, RCODE).
fn serve_names(host: &Host, code: Arc<AtomicU8>) -> UdpServer {
    let own = [host.v4(), host.v6()].into_iter();
    let all = own.chain(VIPS.map(|vip| vip.parse().unwrap()));
    let addresses: Vec<_> = all.map(|address| (address, 53)).collect();
    UdpServer::answering(host, &addresses, move |_, query| {
        const RESPONSE: u8 = 0x80;
        let mut answer = query.to_vec();
        answer[2] |= RESPONSE;
        answer[3] = code.load(Ordering::Relaxed);
        answer
    })
}

#[test]
fn a_name_server_passes_until_it_answers_with_an_error() {
    const NO_ERROR: u8 = 0;
    const SERVER_FAILURE: u8 = 2;
    let lab = lab(1);
    let _decap = decapsulate(&lab, "");
    let code = Arc::new(AtomicU8::new(NO_ERROR));
    let _names = serve_names(lab.real_server(1), code.clone());
    let checks = "dns: {name: example.com, port: 53}, dns: {name: example.com, type: AAAA, port: 53, via: real}";
    let lb = Daemon::start(&lab, &checking(&lab, FAST, checks, &WAYS)).unwrap();
    code.store(SERVER_FAILURE, Ordering::Relaxed);
    for way in WAYS {
        for check in [0, 1] {
            wait_for_message(&lb, way, check, "answered SERVFAIL from ");
        }
    }
    code.store(NO_ERROR, Ordering::Relaxed);
    for way in WAYS {
        let is_up = |status: &Value| real_server(status, way, 1)["state"] == "up";
        lb.wait_until("web-1 is up", is_up).unwrap();
    }
}

#[test]
fn a_datagram_is_answered_with_what_is_expected_or_with_something_else() {
    let lab = lab(1);
    let _decap = decapsulate(&lab, "");
    let host = lab.real_server(1);
    let addresses = VIPS.map(|vip| (vip, 53));
    let _udp = UdpServer::answering(host, &addresses, |_, payload| [payload, b"/pong"].concat());
    let checks =
        "udp: {port: 53, send: ping, expect: ping/pong}, udp: {port: 53, send: ping, expect: peng}";
    let lb = Daemon::spawn(&lab, &checking(&lab, FAST, checks, &WAYS)).unwrap();
    for way in WAYS {
        wait_for_message(&lb, way, 1, "answer without `peng` from ");
        let passes = |status: &Value| real_server(status, way, 1)["checks"][0]["ok"] == true;
        lb.wait_until("the first check passes", passes).unwrap();
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_passes_unless_it_is_verified() {
    let lab = lab(1);
    let _decap = decapsulate(&lab, "");
    let _https = HttpsServer::start(lab.real_server(1), 443, "shop.example");
    let checks = "http: {port: 443, tls: true, host: shop.example, verify: false}, \
                  http: {port: 443, tls: true, host: shop.example, verify: true}";
    let lb = Daemon::spawn(&lab, &checking(&lab, SLOW, checks, &WAYS)).unwrap();
    for way in WAYS {
        wait_for_message(&lb, way, 1, "TLS: unknown issuer from ");
        let passes = |status: &Value| real_server(status, way, 1)["checks"][0]["ok"] == true;
        lb.wait_until("the first check passes", passes).unwrap();
    }
}
