//! What the service manager hears from the daemon (sd_notify(3)).

use std::{fs, os::unix::net::UnixDatagram, time::Duration};

use lb_tests::Daemon;
use nix::{
    sys::signal::Signal,
    time::{ClockId, clock_gettime},
};

use crate::support::{PATIENCE, lab, serve_http};

const CHECKED: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web], health: {interval: 200ms, timeout: 200ms, checks: [arp]}}
";

/// The next messages, up to the one that has all of these lines.
fn hear(socket: &UnixDatagram, lines: &[&str]) -> String {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("{error}, waiting for {lines:?}; heard: {heard:#?}");
        });
        let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if lines
            .iter()
            .all(|line| message.lines().any(|it| it == *line))
        {
            return message;
        }
        heard.push(message);
    }
}

#[test]
fn the_service_manager_hears_how_the_daemon_is() {
    let lab = lab(1);
    let _servers = serve_http(&lab, &[80]);
    let path = lab.directory().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let by = [
        "env",
        &format!("NOTIFY_SOCKET={}", path.display()),
        "WATCHDOG_USEC=1000000",
    ];
    let lb = Daemon::spawn_by(&lab, &lab.config(CHECKED), &by).unwrap();
    hear(&socket, &["READY=1", "STATUS=1 virtual servers, all up"]);
    hear(&socket, &["WATCHDOG=1"]);

    lb.signal(Signal::SIGHUP);
    let reloading = hear(&socket, &["RELOADING=1"]);
    let at = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let at = Duration::from_micros(at.unwrap().parse().unwrap());
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    assert!(at <= now && now - at < PATIENCE, "{at:?} {now:?}");
    hear(&socket, &["READY=1", "STATUS=1 virtual servers, all up"]);

    fs::write(lab.config_file(), "interfaces: []").unwrap();
    hear(&socket, &["RELOADING=1"]);
    let refused = hear(&socket, &["READY=1"]);
    assert!(
        refused.contains("STATUS=configuration not applied: "),
        "{refused}"
    );

    lab.unplug(lab.real_server(1));
    hear(&socket, &["STATUS=1 virtual servers, 1 down"]);
    lb.signal(Signal::SIGTERM);
    hear(&socket, &["STOPPING=1"]);
    assert!(lb.wait().unwrap().success());
}
