//! `lb decap` on a real server, with IP-in-IP packets sent by hand.

use std::{
    net::{IpAddr, SocketAddr},
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::Duration,
};

use etherparse::{IpEcn, IpFragOffset, IpHeaders};
use lb_tests::{Decap, Host, HttpServer, Lab, PacketSocket, UdpClient, UdpServer};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    frames::{datagram, encapsulated, ip_header},
    interfaces::xdp_mode,
    support::{PATIENCE, StopAtEnd, VIP, VIP6, lab, serve_udp, wait_until},
};

const PAYLOAD: &str = "is anybody there?";
/// Not on the real servers.
const OTHER_VIP: &str = "10.9.1.77";

/// Sends packets of the client's flows to a real server as a balancer does that the client's machine has the
/// part of.
struct Balancer<'a> {
    lab: &'a Lab,
    socket: PacketSocket,
    real_server: &'a Host,
}

impl<'a> Balancer<'a> {
    fn new(lab: &'a Lab) -> Self {
        Self::to(lab, lab.real_server(1))
    }

    fn to(lab: &'a Lab, real_server: &'a Host) -> Self {
        Self {
            lab,
            socket: PacketSocket::open(lab.client(), "eth0"),
            real_server,
        }
    }

    /// An outer header of the family that the given function tells.
    fn outer(&self, family: fn(&Host) -> IpAddr) -> IpHeaders {
        ip_header([family(self.lab.balancer()), family(self.real_server)])
    }

    fn frame(&self, outer: IpHeaders, packet: &[u8]) -> Vec<u8> {
        let macs = [self.lab.client().mac(), self.real_server.mac()];
        encapsulated(macs, outer, packet)
    }

    /// Sends a datagram of a flow to port 53 of a VIP; returns the frame.
    fn send(&self, outer: IpHeaders, flow: &UdpClient, vip: &str) -> Vec<u8> {
        let frame = self.frame(outer, &request(flow.source(), vip));
        self.socket.send(&frame);
        frame
    }

    /// Sends a datagram of a fresh flow to a VIP in a capsule, and returns who answers, if anybody does.
    fn ask(&self, outer: IpHeaders, vip: &str) -> Option<String> {
        let flow = self.lab.client().udp((vip, 53));
        self.send(outer, &flow, vip);
        let reply = flow.receive().ok()?;
        assert_eq!(
            (reply.client_seen, reply.payload.as_str()),
            (flow.source(), PAYLOAD)
        );
        Some(reply.server)
    }
}

fn request(from: SocketAddr, vip: &str) -> Vec<u8> {
    let to = SocketAddr::new(vip.parse().unwrap(), 53);
    datagram([from, to], PAYLOAD.as_bytes())
}

/// Runs `lb decap` on the first real server, whose pin path follows the arguments.
fn decap(lab: &Lab, arguments: &str) -> Output {
    lab.lb_on(
        lab.real_server(1),
        &format!("decap {arguments} --pin-path {{decap}}"),
    )
    .unwrap()
}

/// The one line in which a command says why it failed.
#[track_caller]
fn refusal(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn start(lab: &Lab, options: &str) -> Decap {
    lab.decapsulate(lab.real_server(1), options).unwrap()
}

fn stats(lab: &Lab) -> Value {
    lab.decap_stats(lab.real_server(1), "eth0").unwrap()
}

#[rstest]
fn a_request_in_a_capsule_is_answered_directly(
    #[values(Host::v4, Host::v6)] outer: fn(&Host) -> IpAddr,
    #[values(VIP, VIP6)] vip: &str,
    #[values("auto", "generic")] mode: &str,
) {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    let _decap = start(&lab, &format!("--xdp {mode}"));
    for _ in 0..10 {
        let answer = balancer.ask(balancer.outer(outer), vip);
        assert_eq!(answer, Some("web-1".to_owned()));
    }
    assert_eq!(stats(&lab)["decapsulated"]["packets"], 10);
}

#[test]
fn without_lb_decap_nobody_answers() {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    assert_eq!(balancer.ask(balancer.outer(Host::v4), VIP), None);
}

#[rstest]
#[case::the_balancer(&["10.9.0.1", "2001:db8:9::1"], true)]
#[case::a_network(&["10.8.0.0/15", "2001:db8::/32"], true)]
#[case::everybody(&["::/0"], true)]
#[case::others(&["10.9.0.0/32", "2001:db8:9::/128"], false)]
#[case::the_other_family(&["2000::/3", "0.0.0.0/32"], false)]
fn only_those_named_by_from_are_heard(#[case] from: &[&str], #[case] heard: bool) {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    let options: String = from.iter().map(|from| format!("--from {from} ")).collect();
    let _decap = start(&lab, &options);
    let answer = balancer.ask(balancer.outer(Host::v4), VIP);
    assert_eq!(answer.is_some(), heard);
    let passed = u64::from(!heard);
    assert_eq!(stats(&lab)["passed"]["source_not_allowed"], passed);
}

#[test]
fn the_next_lb_decap_may_hear_others() {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    for (options, heard) in [
        ("", true),
        ("--from 10.9.0.2", false),
        ("--from 10.9.0.1", true),
        ("--from 10.9.0.2", false),
        ("", true),
    ] {
        let _decap = start(&lab, options);
        let answer = balancer.ask(balancer.outer(Host::v4), VIP);
        assert_eq!(answer.is_some(), heard, "{options}");
    }
}

#[test]
fn what_is_passed_on_is_untouched() {
    let lab = lab(1);
    let balancer = Balancer::new(&lab);
    let arrived = PacketSocket::open(lab.real_server(1), "eth0");
    let _decap = start(&lab, "--from 10.9.0.1");
    let client = SocketAddr::new(lab.client().v4(), 40000);
    let macs = [lab.client().mac(), lab.real_server(1).mac()];
    let outer = || balancer.outer(Host::v4);
    let fragment = {
        let IpHeaders::Ipv4(mut header, extensions) = outer() else {
            unreachable!("it is IPv4")
        };
        header.fragment_offset = IpFragOffset::try_new(185).unwrap();
        IpHeaders::Ipv4(header, extensions)
    };
    let from_other = ip_header([lab.client().v4(), lab.real_server(1).v4()]);
    let to_other = ip_header([lab.balancer().v4(), OTHER_VIP.parse().unwrap()]);
    let frames = [
        balancer.frame(fragment, &request(client, VIP)),
        balancer.frame(from_other, &request(client, VIP)),
        balancer.frame(outer(), &request(client, OTHER_VIP)),
        balancer.frame(outer(), &request(client, VIP)[..27]),
        encapsulated(macs, to_other, &request(client, VIP)),
    ];
    for frame in &frames {
        balancer.socket.send(frame);
        let same = arrived.receive(Duration::from_secs(2), |arrived| arrived == frame);
        assert!(same.is_some(), "{frame:02x?}");
    }
    assert_eq!(
        stats(&lab)["passed"],
        json!({
            "outer_fragment": 1,
            "source_not_allowed": 1,
            "destination_not_local": 1,
            "malformed_inner": 1,
        })
    );
}

#[rstest]
fn what_is_inside_comes_out_as_it_was_with_its_tags(
    #[values(Host::v4, Host::v6)] outer: fn(&Host) -> IpAddr,
    #[values(VIP, VIP6)] vip: &str,
    #[values("native", "generic")] mode: &str,
) {
    let lab = lab(1);
    let balancer = Balancer::new(&lab);
    let arrived = PacketSocket::open(lab.real_server(1), "eth0");
    let _decap = start(&lab, &format!("--xdp {mode}"));
    let flow = lab.client().udp((vip, 53));
    let packet = request(flow.source(), vip);
    let ethertype = match packet[0] >> 4 {
        4 => [0x08, 0x00],
        _ => [0x86, 0xdd],
    };
    // 802.1Q, and 802.1ad around it.
    let tags: [&[u8]; 3] = [&[], &[0x81, 0, 0, 7], &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7]];
    for tags in tags {
        let frame = balancer.frame(balancer.outer(outer), &packet);
        let (macs, rest) = frame.split_at(12);
        balancer.socket.send(&[macs, tags, rest].concat());
        let expected = [macs, tags, &ethertype, &packet].concat();
        let received = arrived.receive(PATIENCE, |frame| frame.ends_with(PAYLOAD.as_bytes()));
        assert_eq!(received, Some(expected));
    }
}

#[test]
fn other_traffic_of_the_real_server_goes_on() {
    let lab = lab(1);
    let host = lab.real_server(1);
    let _http = HttpServer::start(host, &[80]);
    let _udp = UdpServer::start(host, &[(host.v4(), 53), (host.v6(), 53)]);
    let _decap = start(&lab, "");
    for address in [host.v4(), host.v6()] {
        let report = lab.client().http().parallel(8).get((address, 80), 100);
        report.assert_all_succeeded();
        // The large one travels in fragments.
        for payload in ["small".to_owned(), "large".repeat(1000)] {
            let reply = lab.client().udp((address, 53)).ask(&payload);
            assert_eq!(reply.unwrap().payload, payload);
        }
    }
}

#[test]
fn statistics_are_what_was_sent() {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    let _decap = start(&lab, "");
    let (mut packets, mut bytes) = (0, 0);
    for (outer, vip, count) in [(Host::v4 as fn(&Host) -> _, VIP, 20), (Host::v6, VIP6, 30)] {
        let flow = lab.client().udp((vip, 53));
        for _ in 0..count {
            bytes += balancer.send(balancer.outer(outer), &flow, vip).len();
            packets += 1;
            flow.receive().unwrap();
        }
    }
    // Congested, and nothing inside to tell it with.
    let IpHeaders::Ipv4(mut header, extensions) = balancer.outer(Host::v4) else {
        unreachable!("it is IPv4")
    };
    header.ecn = IpEcn::try_new(3).unwrap();
    assert_eq!(balancer.ask(IpHeaders::Ipv4(header, extensions), VIP), None);

    assert_eq!(
        stats(&lab),
        json!({
            "name": "eth0",
            "decapsulated": { "packets": packets, "bytes": bytes },
            "passed": {
                "outer_fragment": 0,
                "source_not_allowed": 0,
                "destination_not_local": 0,
                "malformed_inner": 0,
            },
            "dropped": { "congestion": 1 },
        })
    );
    let table = decap(&lab, "--stats --interface eth0");
    let table = String::from_utf8(table.stdout).unwrap();
    let numbers = |label: &str| {
        let line = table.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label} in\n{table}"))
            .trim()
    };
    assert_eq!(numbers("decapsulated packets"), packets.to_string());
    assert_eq!(numbers("decapsulated bytes"), bytes.to_string());
    assert_eq!(numbers("dropped, congestion"), "1");
}

#[test]
fn a_vip_added_later_is_served_and_one_removed_is_not() {
    let lab = Lab::builder().real_servers(1).vips([]).build().unwrap();
    let host = lab.real_server(1);
    let balancer = Balancer::new(&lab);
    let _decap = start(&lab, "");
    assert_eq!(balancer.ask(balancer.outer(Host::v4), VIP), None);
    host.ip("addr add 10.9.1.1/32 dev lo");
    let _server = UdpServer::start(host, &[(VIP, 53)]);
    wait_until("the new VIP is served", || {
        balancer.ask(balancer.outer(Host::v4), VIP).is_some()
    });
    host.ip("addr del 10.9.1.1/32 dev lo");
    let passed = || {
        stats(&lab)["passed"]["destination_not_local"]
            .as_u64()
            .unwrap()
    };
    let before = passed();
    wait_until("the old VIP is not served", || {
        balancer.send(balancer.outer(Host::v4), &lab.client().udp((VIP, 53)), VIP);
        passed() > before
    });
}

#[test]
fn a_packet_to_the_loopback_addresses_is_left_alone() {
    let lab = lab(1);
    let balancer = Balancer::new(&lab);
    let _decap = start(&lab, "");
    let flows = [
        ("10.9.0.100:40000", "127.0.0.1"),
        ("[2001:db8:9::100]:40000", "::1"),
    ];
    for (from, to) in flows {
        let packet = request(from.parse().unwrap(), to);
        let frame = balancer.frame(balancer.outer(Host::v4), &packet);
        balancer.socket.send(&frame);
    }
    wait_until("both are counted", || {
        stats(&lab)["passed"]["destination_not_local"] == 2
    });
}

#[rstest]
#[case::after_sigterm(Signal::SIGTERM)]
#[case::after_a_crash(Signal::SIGKILL)]
fn decapsulation_goes_on_when_lb_decap_ends_and_starts_again(#[case] end: Signal) {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let mut decap = start(&lab, "");
    let done = AtomicBool::new(false);
    let (decap, asked) = thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let asked = scope.spawn(|| {
            let balancer = Balancer::new(&lab);
            let flow = lab.client().udp((VIP, 53));
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                balancer.send(balancer.outer(Host::v4), &flow, VIP);
                flow.receive()
                    .unwrap_or_else(|error| panic!("after {asked} datagrams: {error}"));
                asked += 1;
            }
            asked
        });
        for _ in 0..10 {
            let status = decap.stop(end).unwrap();
            assert_eq!(status.success(), end == Signal::SIGTERM, "{status}");
            sleep(Duration::from_millis(50));
            decap = start(&lab, "");
        }
        drop(stop);
        (decap, asked.join().unwrap())
    });
    assert!(asked > 100, "{asked} datagrams are no test");
    assert_eq!(stats(&lab)["decapsulated"]["packets"], asked);
    assert!(
        decap.log().contains("took the interface over"),
        "{}",
        decap.log()
    );
    drop(decap);
    assert_eq!(stats(&lab)["decapsulated"]["packets"], asked);
}

#[rstest]
#[case::sigterm(Signal::SIGTERM)]
#[case::a_crash(Signal::SIGKILL)]
fn stop_leaves_nothing(#[case] end: Signal) {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    let running = start(&lab, "");
    assert!(xdp_mode(lab.real_server(1), "eth0").is_some());

    let message = refusal(&decap(&lab, "--stop"));
    assert!(message.contains("running for eth0"), "{message}");
    assert!(balancer.ask(balancer.outer(Host::v4), VIP).is_some());

    running.stop(end).unwrap();
    assert!(balancer.ask(balancer.outer(Host::v4), VIP).is_some());
    let stopped = decap(&lab, "--stop");
    assert!(stopped.status.success() && stopped.stderr.is_empty());
    assert!(!lab.decap_pin_path().exists());
    assert_eq!(xdp_mode(lab.real_server(1), "eth0"), None);
    assert_eq!(balancer.ask(balancer.outer(Host::v4), VIP), None);
    for command in ["--stop", "--stats", "--stop --interface eth0"] {
        let message = refusal(&decap(&lab, command));
        assert!(message.contains("nothing in place"), "{message}");
    }

    let _decap = start(&lab, "");
    assert!(balancer.ask(balancer.outer(Host::v4), VIP).is_some());
}

#[test]
fn a_second_lb_decap_for_an_interface_is_refused() {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    let _decap = start(&lab, "");
    let message = refusal(&decap(&lab, "--interface eth0"));
    assert!(message.contains("running for eth0 already"), "{message}");
    assert!(balancer.ask(balancer.outer(Host::v4), VIP).is_some());
}

#[test]
fn hosts_with_one_bpf_file_system_do_not_meet() {
    let lab = lab(2);
    let _servers = serve_udp(&lab, &[53]);
    let [first, second] = [1, 2].map(|number| Balancer::to(&lab, lab.real_server(number)));
    let running = start(&lab, "");
    let _other = lab.decapsulate(lab.real_server(2), "").unwrap();
    let ask = |balancer: &Balancer<'_>| balancer.ask(balancer.outer(Host::v4), VIP);
    assert_eq!(ask(&first), Some("web-1".to_owned()));
    assert_eq!(ask(&second), Some("web-2".to_owned()));
    running.stop(Signal::SIGTERM).unwrap();
    assert!(decap(&lab, "--stop").status.success());
    assert_eq!(ask(&first), None);
    assert_eq!(ask(&second), Some("web-2".to_owned()));
}

/// A dot in its name, as VLAN interfaces have it.
const CABLE: &str = "wan.5";

fn plug_in_cable(host: &Host) {
    host.ip(&format!("link add {CABLE} type veth peer name other"));
}

fn unplug_cable(host: &Host) {
    host.ip(&format!("link del {CABLE}"));
}

#[test]
fn an_interface_made_anew_is_served_again() {
    let lab = lab(1);
    let host = lab.real_server(1);
    plug_in_cable(host);
    let decap = lab.decapsulate_on(host, CABLE, "").unwrap();
    assert!(xdp_mode(host, CABLE).is_some());
    unplug_cable(host);
    wait_until("it is noticed", || {
        decap.log().contains("wan.5 does not exist")
    });
    plug_in_cable(host);
    wait_until("it is served again", || xdp_mode(host, CABLE).is_some());
}

#[test]
fn the_link_of_an_interface_that_went_without_a_process_is_replaced() {
    let lab = lab(1);
    let host = lab.real_server(1);
    plug_in_cable(host);
    let decap = lab.decapsulate_on(host, CABLE, "").unwrap();
    decap.stop(Signal::SIGKILL).unwrap();
    unplug_cable(host);
    plug_in_cable(host);
    assert_eq!(xdp_mode(host, CABLE), None);
    let _decap = lab.decapsulate_on(host, CABLE, "").unwrap();
    assert!(xdp_mode(host, CABLE).is_some());
    lab.decap_stats(host, CABLE).unwrap();
}

#[test]
fn stop_removes_what_interfaces_have_left_that_are_gone_with_their_namespace_or_not() {
    let lab = lab(2);
    let [here, there] = [1, 2].map(|number| lab.real_server(number));
    plug_in_cable(there);
    let [gone, stays] = [CABLE, "eth0"].map(|name| lab.decapsulate_on(there, name, "").unwrap());
    gone.stop(Signal::SIGTERM).unwrap();
    stays.stop(Signal::SIGTERM).unwrap();
    unplug_cable(there);
    assert!(decap(&lab, "--stop").status.success());
    assert!(xdp_mode(there, "eth0").is_some());
    let stop = "decap --stop --interface wan.5 --pin-path {decap}";
    let message = refusal(&lab.lb_on(there, stop).unwrap());
    assert!(message.contains("nothing in place on wan.5"), "{message}");
    assert!(refusal(&decap(&lab, "--stop")).contains("nothing in place"));

    plug_in_cable(here);
    let waits = lab.decapsulate_on(here, CABLE, "").unwrap();
    unplug_cable(here);
    assert!(refusal(&decap(&lab, "--stop")).contains("running for wan.5"));
    waits.stop(Signal::SIGTERM).unwrap();
    assert!(decap(&lab, "--stop").status.success());
}

#[test]
fn one_process_serves_several_interfaces() {
    let lab = lab(1);
    let host = lab.real_server(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    plug_in_cable(host);
    let decap = start(&lab, &format!("--interface {CABLE}"));
    balancer.ask(balancer.outer(Host::v4), VIP).unwrap();
    for (interface, packets) in [("eth0", 1), (CABLE, 0)] {
        assert!(xdp_mode(host, interface).is_some());
        let stats = lab.decap_stats(host, interface).unwrap();
        assert_eq!(stats["decapsulated"]["packets"], packets);
    }
    decap.stop(Signal::SIGTERM).unwrap();
    let stop = |interface| {
        let arguments = format!("decap --stop --interface {interface} --pin-path {{decap}}");
        assert!(lab.lb_on(host, &arguments).unwrap().status.success());
        assert_eq!(xdp_mode(host, interface), None);
    };
    stop(CABLE);
    assert!(balancer.ask(balancer.outer(Host::v4), VIP).is_some());
    stop("eth0");
    assert!(!lab.decap_pin_path().exists());
}

#[test]
fn an_interface_that_is_not_there_is_refused() {
    let lab = lab(1);
    let message = refusal(&decap(&lab, "--interface eth0 --interface eth7"));
    assert!(message.contains("eth7 does not exist"), "{message}");
    assert_eq!(xdp_mode(lab.real_server(1), "eth0"), None);
    assert!(!lab.decap_pin_path().exists());
}

#[test]
fn a_start_that_fails_for_one_interface_leaves_nothing_on_the_others() {
    let lab = lab(1);
    let host = lab.real_server(1);
    plug_in_cable(host);
    // Other pins know nothing of the program that is attached.
    let _other = lab.decapsulate_on(host, CABLE, "").unwrap();
    let pin_path = lab.decap_pin_path().join("of-this-test");
    let arguments = format!(
        "decap --interface eth0 --interface {CABLE} --pin-path {}",
        pin_path.display()
    );
    let output = lab.lb_on(host, &arguments).unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let reason = message.lines().last().unwrap();
    assert!(
        reason.contains("another XDP program is attached to wan.5") && reason.contains("xdp off"),
        "{message}"
    );
    assert!(!pin_path.exists());
    assert_eq!(xdp_mode(host, "eth0"), None);
    assert!(xdp_mode(host, CABLE).is_some());
}

#[test]
fn a_start_that_fails_leaves_what_another_lb_decap_has_in_place() {
    let lab = lab(1);
    let host = lab.real_server(1);
    plug_in_cable(host);
    let _running = lab.decapsulate_on(host, CABLE, "").unwrap();
    let message = refusal(&decap(
        &lab,
        &format!("--interface eth0 --interface {CABLE}"),
    ));
    assert!(message.contains("running for wan.5 already"), "{message}");
    assert_eq!(xdp_mode(host, "eth0"), None);
    assert!(xdp_mode(host, CABLE).is_some());
    let message = refusal(&decap(&lab, "--stop --interface eth0"));
    assert!(message.contains("nothing in place on eth0"), "{message}");
    lab.decap_stats(host, CABLE).unwrap();
}

#[test]
fn a_takeover_that_fails_leaves_the_sources_that_were_heard() {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    let host = lab.real_server(1);
    plug_in_cable(host);
    let busy = lab.decapsulate_on(host, CABLE, "").unwrap();
    start(&lab, "--from 10.9.0.2")
        .stop(Signal::SIGTERM)
        .unwrap();
    let both = format!("--interface eth0 --interface {CABLE}");
    refusal(&decap(&lab, &both));
    assert_eq!(balancer.ask(balancer.outer(Host::v4), VIP), None);
    // It was for want of the other interface.
    drop(busy);
    let _both = lab.decapsulate_on(host, CABLE, "--interface eth0").unwrap();
    assert!(balancer.ask(balancer.outer(Host::v4), VIP).is_some());
}

#[test]
fn an_interface_that_is_named_twice_is_served_once() {
    let lab = lab(1);
    let _decap = start(&lab, "--interface eth0");
    assert!(xdp_mode(lab.real_server(1), "eth0").is_some());
}

#[test]
fn another_mode_is_refused_while_the_program_is_attached() {
    let lab = lab(1);
    start(&lab, "--xdp generic").stop(Signal::SIGTERM).unwrap();
    let message = refusal(&decap(&lab, "--interface eth0 --xdp native"));
    assert!(message.contains("`lb decap --stop`"), "{message}");
    start(&lab, "--xdp auto");
}

#[test]
fn as_many_sources_as_may_be_are_replaced_by_as_many_others() {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let balancer = Balancer::new(&lab);
    for network in [8, 9] {
        let from = (0..4096).map(|n| format!("--from 10.{network}.{}.{} ", n / 256, n % 256));
        let _decap = start(&lab, &from.collect::<String>());
        let answer = balancer.ask(balancer.outer(Host::v4), VIP);
        assert_eq!(answer.is_some(), network == 9);
    }
}

#[test]
fn without_a_bpf_file_system_it_says_what_to_mount() {
    let lab = lab(1);
    let pin_path = lab.directory().join("pins");
    let arguments = format!("decap --interface eth0 --pin-path {}", pin_path.display());
    let output = lab.lb_on(lab.real_server(1), &arguments).unwrap();
    let message = refusal(&output);
    assert!(message.contains("mount -t bpf"), "{message}");
    assert!(!pin_path.exists());
}
