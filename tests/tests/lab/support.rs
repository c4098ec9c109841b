//! What most tests start from.

use std::{
    collections::BTreeMap,
    net::ToSocketAddrs,
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use lb_tests::{Daemon, Decap, HttpServer, Lab, TcpClient, TcpServer, UdpServer, named};
use serde_json::Value;

/// For whatever must happen in the end.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The VIPs of the lab.
pub const VIP: &str = "10.9.1.1";
pub const VIP6: &str = "2001:db8:9:1::1";
pub const SECOND_VIP: &str = "10.9.1.2";
pub const SECOND_VIP6: &str = "2001:db8:9:1::2";
/// All of them, each with its own real servers in [`TUNNELS`].
pub const VIPS: [&str; 4] = [VIP, VIP6, SECOND_VIP, SECOND_VIP6];

/// A virtual server for HTTP on the first VIP, v4 and v6.
pub const SHOP: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [web]}
- {name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, bind: [web6]}
";

/// A virtual server for UDP on the first VIP, v4 and v6.
pub const DNS: &str = "
- {name: dns, vip: 10.9.1.1, protocol: udp, port: 53, bind: [web]}
- {name: dns6, vip: '2001:db8:9:1::1', protocol: udp, port: 53, bind: [web6]}
";

/// Virtual servers for HTTP and UDP of L3 DSR in each pair of families: packets to the first VIPs travel inside
/// a header of their own family, those to the second ones inside one of the other.
pub const TUNNELS: &str = "
- {name: http-4in4, vip: 10.9.1.1, protocol: tcp, port: 80, forward: l3dsr, bind: [web]}
- {name: http-6in6, vip: '2001:db8:9:1::1', protocol: tcp, port: 80, forward: l3dsr, bind: [web6]}
- {name: http-4in6, vip: 10.9.1.2, protocol: tcp, port: 80, forward: l3dsr, bind: [web6]}
- {name: http-6in4, vip: '2001:db8:9:1::2', protocol: tcp, port: 80, forward: l3dsr, bind: [web]}
- {name: udp-4in4, vip: 10.9.1.1, protocol: udp, port: 53, forward: l3dsr, bind: [web]}
- {name: udp-6in6, vip: '2001:db8:9:1::1', protocol: udp, port: 53, forward: l3dsr, bind: [web6]}
- {name: udp-4in6, vip: 10.9.1.2, protocol: udp, port: 53, forward: l3dsr, bind: [web6]}
- {name: udp-6in4, vip: '2001:db8:9:1::2', protocol: udp, port: 53, forward: l3dsr, bind: [web]}
";

/// The same virtual servers with another predictor.
pub fn with_predictor(virtual_servers: &str, predictor: &str) -> String {
    virtual_servers.replace("bind:", &format!("predictor: {predictor}, bind:"))
}

/// A lab with so many real servers.
pub fn lab(real_servers: u8) -> Lab {
    Lab::builder().real_servers(real_servers).build().unwrap()
}

/// A configuration with these virtual servers, and so few sessions that they are swept several times a second.
pub fn few_sessions(lab: &Lab, virtual_servers: &str) -> String {
    let limits = "limits: {sessions: 2000, sticky: 1000}\n";
    lab.config(virtual_servers) + limits
}

/// As [`balance`], with [`few_sessions`].
pub fn balance_few<'a>(lab: &'a Lab, virtual_servers: &str) -> Daemon<'a> {
    Daemon::start(lab, &few_sessions(lab, virtual_servers)).unwrap()
}

/// Replaces the virtual servers of [`balance_few`], and waits until the daemon has applied that.
pub fn edit(lab: &Lab, lb: &Daemon, virtual_servers: &str) {
    apply(lab, lb, &few_sessions(lab, virtual_servers));
}

/// Replaces the configuration, and waits until the daemon has applied that.
pub fn apply(lab: &Lab, lb: &Daemon, config: &str) {
    let applied = || lab.log().matches("configuration applied").count();
    let before = applied();
    lab.write_config(config).unwrap();
    lb.wait_until("the new configuration", |_| applied() > before)
        .unwrap();
}

/// Waits until a real server of a virtual server is in a state.
pub fn wait_for_state(lb: &Daemon, virtual_server: &str, server: &str, state: &str) {
    let so = |status: &Value| {
        let virtual_server = named(&status["virtual_servers"], virtual_server);
        let mut servers = virtual_server["real_servers"]
            .as_array()
            .into_iter()
            .flatten();
        servers.any(|it| it["name"] == server && it["state"] == state)
    };
    lb.wait_until(&format!("{server} is {state}"), so).unwrap();
}

/// Starts `lb` with these virtual servers, and waits until they are up.
pub fn balance<'a>(lab: &'a Lab, virtual_servers: &str) -> Daemon<'a> {
    Daemon::start(lab, &lab.config(virtual_servers)).unwrap()
}

/// As [`balance`], with XDP attached in this mode.
pub fn balance_in_mode<'a>(lab: &'a Lab, virtual_servers: &str, mode: &str) -> Daemon<'a> {
    let config = lab.config(virtual_servers);
    let config = config.replace("xdp: auto", &format!("xdp: {mode}"));
    Daemon::start(lab, &config).unwrap()
}

/// An HTTP server on each real server.
pub fn serve_http(lab: &Lab, ports: &[u16]) -> Vec<HttpServer> {
    lab.real_servers()
        .iter()
        .map(|host| HttpServer::start(host, ports))
        .collect()
}

/// A TCP server for long connections on each real server.
pub fn serve_tcp(lab: &Lab, ports: &[u16]) -> Vec<TcpServer> {
    let serve = |host| TcpServer::start(host, ports);
    lab.real_servers().iter().map(serve).collect()
}

/// Opens so many connections from the client, one after the other.
#[track_caller]
pub fn open(lab: &Lab, to: (&str, u16), count: usize) -> Vec<TcpClient> {
    let open = |_| lab.client().tcp(to).unwrap();
    (0..count).map(open).collect()
}

/// Who answers each connection.
#[track_caller]
pub fn ask_all(connections: &[TcpClient]) -> Vec<String> {
    connections.iter().map(|one| one.ask().unwrap()).collect()
}

/// How often each name is there.
pub fn tally<S: Into<String>>(names: impl IntoIterator<Item = S>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.into()).or_default() += 1;
    }
    counts
}

/// As [`tally`] gives them.
pub fn counts<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

/// A UDP server on each real server, for every VIP.
pub fn serve_udp(lab: &Lab, ports: &[u16]) -> Vec<UdpServer> {
    let addresses: Vec<_> = VIPS
        .into_iter()
        .flat_map(|vip| ports.iter().map(move |&port| (vip, port)))
        .collect();
    lab.real_servers()
        .iter()
        .map(|host| UdpServer::start(host, &addresses))
        .collect()
}

/// `lb decap` on each real server.
pub fn decapsulate(lab: &Lab, options: &str) -> Vec<Decap> {
    let decapsulate = |host| lab.decapsulate(host, options).unwrap();
    lab.real_servers().iter().map(decapsulate).collect()
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so in time: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// The client gets nothing from there, not even a refusal.
#[track_caller]
pub fn assert_nobody_answers(lab: &Lab, to: impl ToSocketAddrs) {
    let patience = Duration::from_millis(500);
    let report = lab.client().http().timeout(patience).get(to, 1);
    assert_eq!(report.replies.len(), 0, "somebody answered");
}

/// A counter of `lb status --json` or `lb decap --stats --json`.
#[track_caller]
pub fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Tells threads to stop when it goes, also with a test that fails: its scope waits for them.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
