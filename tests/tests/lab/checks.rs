//! Health checks of each kind, by the data path and straight to the real servers: each fault fails the checks that it
//! concerns, and no others.

use std::{
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use lb_tests::{Daemon, Decap, Host, HttpServer, Lab, UdpServer, named};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;

use crate::support::{PATIENCE, SECOND_VIP, SECOND_VIP6, VIP, VIP6, VIPS, lab};

/// A virtual server, and the way of packets to its real servers.
#[derive(Clone, Copy)]
pub struct Way {
    pub virtual_server: &'static str,
    pub vip: &'static str,
    pub port: u16,
    forward: &'static str,
    /// The group of its real servers, and the beginning of their names.
    servers: &'static str,
    address: fn(&Host) -> IpAddr,
}

pub const WAYS: [Way; 6] = [
    way("l2-v4", VIP, 8080, "l2dsr", "web"),
    way("l2-v6", VIP6, 8080, "l2dsr", "web6"),
    way("4in4", VIP, 80, "l3dsr", "web"),
    way("6in6", VIP6, 80, "l3dsr", "web6"),
    way("4in6", SECOND_VIP, 80, "l3dsr", "web6"),
    way("6in4", SECOND_VIP6, 80, "l3dsr", "web"),
];

const fn way(
    virtual_server: &'static str,
    vip: &'static str,
    port: u16,
    forward: &'static str,
    servers: &'static str,
) -> Way {
    Way {
        virtual_server,
        vip,
        port,
        forward,
        servers,
        address: if servers.len() == "web".len() {
            Host::v4
        } else {
            Host::v6
        },
    }
}

impl Way {
    pub fn server(self, number: usize) -> String {
        format!("{}-{number}", self.servers)
    }

    fn is_tunnel(self) -> bool {
        self.forward == "l3dsr"
    }

    /// Where a check of a real server goes, in the words of a failure.
    fn target(self, lab: &Lab, number: usize, kind: &CheckKind) -> String {
        let (address, through) = if kind.name.ends_with("real") {
            ((self.address)(lab.real_server(number)), String::new())
        } else {
            let through = format!(" through {}", self.server(number));
            (self.vip.parse().unwrap(), through)
        };
        let port = kind
            .port
            .map(|port| if port == 0 { self.port } else { port });
        match (port, address) {
            (None, _) => format!("{address}{through}"),
            (Some(port), IpAddr::V4(_)) => format!("{address}:{port}{through}"),
            (Some(port), IpAddr::V6(_)) => format!("[{address}]:{port}{through}"),
        }
    }
}

struct CheckKind {
    name: &'static str,
    yaml: &'static str,
    /// 0 is the port of the virtual server.
    port: Option<u16>,
}

const fn kind(name: &'static str, yaml: &'static str, port: Option<u16>) -> CheckKind {
    CheckKind { name, yaml, port }
}

/// All that each virtual server asks of its real servers.
const CHECKS: [CheckKind; 12] = [
    kind("arp real", "arp", None),
    kind("icmp", "icmp", None),
    kind("icmp real", "icmp: {via: real}", None),
    kind("icmp 1400", "icmp: {size: 1400}", None),
    kind("syn", "syn", Some(0)),
    kind("syn real", "syn: {via: real}", Some(0)),
    kind("tcp", "tcp", Some(0)),
    kind("tcp real", "tcp: {via: real}", Some(0)),
    kind("http", "http: {body: answers}", Some(0)),
    kind("http real", "http: {via: real, body: answers}", Some(0)),
    kind(
        "udp",
        "udp: {port: 53, send: hello, expect: hello}",
        Some(53),
    ),
    kind(
        "udp real",
        "udp: {via: real, port: 53, send: hello, expect: hello}",
        Some(53),
    ),
];

const SETTINGS: &str = "interval: 700ms, timeout: 600ms, rise: 1, fall: 2";

fn config(lab: &Lab) -> String {
    checking(
        lab,
        SETTINGS,
        &CHECKS.map(|check| check.yaml).join(", "),
        &WAYS,
    )
}

/// A configuration with the virtual servers of these ways, whose real servers are all checked like this.
pub fn checking(lab: &Lab, settings: &str, checks: &str, ways: &[Way]) -> String {
    let virtual_servers = ways.iter().map(|way| {
        let Way {
            virtual_server,
            vip,
            port,
            forward,
            servers,
            ..
        } = way;
        format!(
            "- {{name: {virtual_server}, vip: '{vip}', protocol: tcp, port: {port}, forward: {forward}, bind: [{servers}]}}\n"
        )
    });
    format!(
        "defaults: {{health: {{{settings}, checks: [{checks}]}}}}\n{}",
        lab.config(&virtual_servers.collect::<String>())
    )
}

/// What runs on the two real servers; faults happen to the first of them.
struct Stage<'a> {
    lab: &'a Lab,
    http: [Option<HttpServer>; 2],
    udp: [Option<UdpServer>; 2],
    decap: [Option<Decap>; 2],
}

impl<'a> Stage<'a> {
    fn new(lab: &'a Lab) -> Self {
        let each = [lab.real_server(1), lab.real_server(2)];
        Self {
            lab,
            http: each.map(|host| Some(serve_http(host))),
            udp: each.map(|host| Some(serve_udp(host))),
            decap: each.map(|host| Some(lab.decapsulate(host, "").unwrap())),
        }
    }

    fn http(&self) -> &HttpServer {
        self.http[0].as_ref().unwrap()
    }

    fn broken(&self) -> &'a Host {
        self.lab.real_server(1)
    }
}

fn serve_http(host: &Host) -> HttpServer {
    HttpServer::start(host, &[80, 8080])
}

fn serve_udp(host: &Host) -> UdpServer {
    let own = [host.v4(), host.v6()];
    let vips = VIPS.map(|vip| vip.parse().unwrap());
    let addresses = own.into_iter().chain(vips).map(|address| (address, 53));
    UdpServer::start(host, &addresses.collect::<Vec<_>>())
}

/// What is wrong, and how to say it, with `{}` for where the check goes.
type Words = (&'static [&'static str], &'static str);

const ARP: &[&str] = &["arp real"];
const BY_TCP: &[&str] = &["syn", "syn real", "tcp", "tcp real", "http", "http real"];
const HTTP: &[&str] = &["http", "http real"];
const UDP: &[&str] = &["udp", "udp real"];
const ECHO: &[&str] = &["icmp", "icmp 1400"];
const LARGE: &[&str] = &["icmp 1400"];
const NO_CONNECTION: &[&str] = &["syn", "tcp", "http"];
const SILENT_VIP: &[Words] = &[
    (ECHO, "no echo reply from {} in 600ms"),
    (NO_CONNECTION, "no SYN-ACK from {} in 600ms"),
    (&["udp"], "no UDP answer from {} in 600ms"),
];

fn process_dead(stage: &mut Stage<'_>, is_so: bool) {
    stage.http[0] = (!is_so).then(|| serve_http(stage.broken()));
}

fn udp_process_dead(stage: &mut Stage<'_>, is_so: bool) {
    // Or the kernel says only once a second that a port is closed.
    let unlimited = ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"].map(|key| (key, "0"));
    stage.broken().sysctls(&unlimited).unwrap();
    stage.udp[0] = (!is_so).then(|| serve_udp(stage.broken()));
}

fn vips_gone(stage: &mut Stage<'_>, is_so: bool) {
    for vip in VIPS {
        let (verb, nodad) = match (is_so, vip.contains(':')) {
            (true, _) => ("del", ""),
            (false, false) => ("add", ""),
            (false, true) => ("add", "nodad"),
        };
        stage
            .broken()
            .ip(&format!("addr {verb} {vip} dev lo {nodad}"));
    }
}

fn decapsulator_gone(stage: &mut Stage<'_>, is_so: bool) {
    let (lab, host) = (stage.lab, stage.broken());
    if let Some(decap) = stage.decap[0].take().filter(|_| is_so) {
        decap.stop(Signal::SIGTERM).unwrap();
        let stop = "decap --stop --interface eth0 --pin-path {decap}";
        let stopped = lab.lb_on(host, stop).unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
    } else {
        stage.decap[0] = Some(lab.decapsulate(host, "").unwrap());
    }
}

fn large_packets_lost(stage: &mut Stage<'_>, is_so: bool) {
    let mtu = if is_so { 1350 } else { 1500 };
    stage.lab.narrow(stage.broken(), mtu);
}

fn overloaded(stage: &mut Stage<'_>, is_so: bool) {
    let status = if is_so { 503 } else { 200 };
    stage.http().set_status(move |_| status);
}

fn other_content(stage: &mut Stage<'_>, is_so: bool) {
    let text = if is_so { "It works!" } else { "web-1 answers" };
    stage.http().set_body(text);
}

fn slow(stage: &mut Stage<'_>, is_so: bool) {
    stage
        .http()
        .set_delay(Duration::from_millis(900 * u64::from(is_so)));
}

/// A filter that swallows what comes to the HTTP ports.
fn firewall(stage: &mut Stage<'_>, is_so: bool) {
    let host = stage.broken();
    for family in ["-4", "-6"] {
        if is_so {
            refuse(host, family, "blackhole");
        } else {
            host.ip(&format!("{family} rule del pref 1"));
        }
    }
}

/// Does this with packets to the HTTP ports: a rule before that of the host's own addresses.
pub fn refuse(host: &Host, family: &str, action: &str) {
    host.ip(&format!("{family} rule add pref 10 lookup local"));
    host.ip(&format!("{family} rule del pref 0"));
    host.ip(&format!(
        "{family} rule add pref 1 ipproto tcp dport 80-8080 {action}"
    ));
}

/// The second machine takes the address of the first, too.
fn another_machine_with_its_addresses(stage: &mut Stage<'_>, is_so: bool) {
    let verb = if is_so { "add" } else { "del" };
    let (owner, other) = (stage.broken(), stage.lab.real_server(2));
    other.ip(&format!("addr {verb} {}/32 dev eth0", owner.v4()));
    other.ip(&format!("addr {verb} {}/128 dev eth0 nodad", owner.v6()));
}

#[rstest]
#[case::process_dead(process_dead, everywhere, &[(BY_TCP, "connection refused by {}")])]
#[case::udp_process_dead(udp_process_dead, everywhere, &[(UDP, "{} is unreachable: port unreachable")])]
#[case::vips_gone(vips_gone, everywhere, SILENT_VIP)]
#[case::decapsulator_gone(decapsulator_gone, Way::is_tunnel, SILENT_VIP)]
#[case::large_packets_lost(large_packets_lost, everywhere, &[(LARGE, "no echo reply from {} in 600ms")])]
#[case::overloaded(overloaded, everywhere, &[(HTTP, "status 503 (expected 200-399) from {}")])]
#[case::other_content(other_content, everywhere, &[(HTTP, "body without `answers` from {}")])]
#[case::slow(slow, everywhere, &[(HTTP, "no response from {} in 600ms")])]
#[case::firewall(firewall, everywhere, &[(BY_TCP, "no SYN-ACK from {} in 600ms")])]
#[case::another_machine_with_its_addresses(another_machine_with_its_addresses, everywhere, &[
    (ARP, "answers of several machines (02:00:0a:09:00:0b, 02:00:0a:09:00:0c) from {}"),
])]
fn a_fault_fails_the_checks_that_it_concerns(
    #[case] fault: fn(&mut Stage<'_>, bool),
    #[case] concerns: fn(Way) -> bool,
    #[case] fails: &[Words],
) {
    let lab = lab(2);
    let mut stage = Stage::new(&lab);
    let lb = Daemon::start(&lab, &config(&lab)).unwrap();
    wait_for_findings(&lb, &healthy());
    fault(&mut stage, true);
    wait_for_findings(&lb, &failing(&lab, concerns, fails));
    fault(&mut stage, false);
    wait_for_findings(&lb, &healthy());
    let second = |line: &&str| line.contains(WENT_DOWN) && line.ends_with("-2");
    let log = lab.log();
    assert_eq!(log.lines().find(second), None, "{log}");
}

#[test]
fn a_dead_machine_fails_all_checks_and_comes_back() {
    let lab = lab(2);
    let _stage = Stage::new(&lab);
    let lb = Daemon::start(&lab, &config(&lab)).unwrap();
    wait_for_findings(&lb, &healthy());
    lab.unplug(lab.real_server(1));
    let is_dead = |status: &Value| {
        WAYS.iter().all(|way| {
            let server = real_server(status, *way, 1);
            let mut checks = server["checks"].as_array().unwrap().iter();
            server["state"] == "down"
                && server["reason"]
                    .as_str()
                    .unwrap()
                    .starts_with("no answer to ")
                && checks.all(|check| check["ok"] == false)
        })
    };
    let status = lb.wait_until("web-1 is dead", is_dead).unwrap();
    for way in WAYS {
        assert_eq!(real_server(&status, way, 2)["state"], "up");
    }
    lab.plug_in(lab.real_server(1));
    wait_for_findings(&lb, &healthy());
}

/// What the status says of a real server.
pub fn real_server(status: &Value, way: Way, number: usize) -> &Value {
    let virtual_server = named(&status["virtual_servers"], way.virtual_server);
    named(&virtual_server["real_servers"], &way.server(number))
}

/// In the log, of who was up before.
pub const WENT_DOWN: &str = " down (up for ";

/// In the log, of who was down before.
pub const CAME_UP: &str = " up (down for ";

fn everywhere(_: Way) -> bool {
    true
}

/// The states of all real servers, and what is wrong with them.
fn findings(status: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for way in WAYS {
        for number in [1, 2] {
            let server = real_server(status, way, number);
            let about = format!("{} {}", way.virtual_server, way.server(number));
            findings.push(format!("{about} {}", server["state"].as_str().unwrap()));
            let checks = server["checks"].as_array().unwrap();
            assert_eq!(checks.len(), CHECKS.len(), "{server:#}");
            for (check, kind) in checks.iter().zip(&CHECKS) {
                let message = check["message"].as_str().unwrap();
                if check["ok"] != true {
                    let words = message
                        .rsplit_once(" (")
                        .map_or(message, |(words, _)| words);
                    findings.push(format!("{about} {}: {words}", kind.name));
                }
            }
        }
    }
    findings
}

fn healthy() -> Vec<String> {
    let each = WAYS
        .iter()
        .flat_map(|way| [1, 2].map(|number| (way, number)));
    each.map(|(way, number)| format!("{} {} up", way.virtual_server, way.server(number)))
        .collect()
}

/// The first server fails in these words on the ways that are concerned, and goes down there.
fn failing(lab: &Lab, concerns: impl Fn(Way) -> bool, fails: &[Words]) -> Vec<String> {
    let mut findings = Vec::new();
    for way in WAYS {
        let (first, second) = (way.server(1), way.server(2));
        let about = format!("{} {first}", way.virtual_server);
        if concerns(way) {
            findings.push(format!("{about} down"));
            for kind in &CHECKS {
                let words = fails.iter().find(|(kinds, _)| kinds.contains(&kind.name));
                findings.extend(words.map(|(_, words)| {
                    let words = words.replace("{}", &way.target(lab, 1, kind));
                    format!("{about} {}: {words}", kind.name)
                }));
            }
        } else {
            findings.push(format!("{about} up"));
        }
        findings.push(format!("{} {second} up", way.virtual_server));
    }
    findings
}

#[track_caller]
fn wait_for_findings(lb: &Daemon<'_>, expected: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = findings(&lb.status().unwrap());
        if found == expected {
            return;
        }
        if Instant::now() > deadline {
            assert_eq!(found, expected);
        }
        sleep(Duration::from_millis(20));
    }
}
