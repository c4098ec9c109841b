//! TCP packets in mid-stream that have no session: here, of connections that outlive the session table.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use lb_tests::{Daemon, Lab, TcpClient};
use rstest::rstest;

use crate::{
    session_maps::wait_for_active,
    support::{VIP, VIP6, ask_all, balance_few, decapsulate, lab, number, open, serve_tcp},
};

/// Virtual servers `shop` and `shop6`.
fn shops(settings: &str) -> String {
    format!(
        "
- {{name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, {settings}, bind: [web]}}
- {{name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, {settings}, bind: [web6]}}
"
    )
}

/// Starts `lb` with empty maps.
fn start_anew<'a>(lab: &'a Lab, lb: Daemon, settings: &str) -> Daemon<'a> {
    let stop = lab.lb("stop --socket {socket}").unwrap();
    assert!(stop.status.success(), "{stop:?}");
    lb.wait().unwrap();
    balance_few(lab, &shops(settings))
}

/// Five connections of each family.
fn connections(lab: &Lab) -> Vec<TcpClient> {
    let all: Vec<_> = [VIP, VIP6]
        .into_iter()
        .flat_map(|vip| open(lab, (vip, 80), 5))
        .collect();
    ask_all(&all);
    all
}

#[rstest]
fn reset_tells_the_client_at_once(#[values("l2dsr", "l3dsr")] forward: &str) {
    let lab = lab(2);
    let _servers = (serve_tcp(&lab, &[80]), decapsulate(&lab, ""));
    let settings = format!("forward: {forward}, session: {{on_unknown: reset}}");
    let lb = balance_few(&lab, &shops(&settings));
    let connections = connections(&lab);
    let lb = start_anew(&lab, lb, &settings);
    for connection in &connections {
        let begin = Instant::now();
        let error = connection.ask().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
    let status = lb.status().unwrap();
    let resets = number(&status["drops"]["unknown_session_reset"]);
    assert_eq!(resets, connections.len() as u64);
    // New ones are served.
    self::connections(&lab);
}

#[test]
fn drop_is_silent_and_counted() {
    let lab = lab(2);
    let _servers = serve_tcp(&lab, &[80]);
    let settings = "session: {on_unknown: drop}";
    let lb = balance_few(&lab, &shops(settings));
    let connections = connections(&lab);
    let lb = start_anew(&lab, lb, settings);
    for connection in &connections {
        let error = connection.ask_for(Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    let status = lb.status().unwrap();
    let drops = number(&status["drops"]["unknown_session"]);
    assert!(drops >= connections.len() as u64, "{drops}");
}

#[rstest]
fn forward_lets_the_hash_go_on(#[values("l2dsr", "l3dsr")] forward: &str) {
    let lab = lab(3);
    let _servers = (serve_tcp(&lab, &[80]), decapsulate(&lab, ""));
    let settings = format!("forward: {forward}");
    let lb = balance_few(&lab, &shops(&settings));
    let connections = connections(&lab);
    let before = ask_all(&connections);
    let _lb = start_anew(&lab, lb, &settings);
    assert_eq!(ask_all(&connections), before);
    for name in ["shop", "shop6"] {
        wait_for_active(&lab, name, 5);
    }
}
