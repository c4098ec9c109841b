//! Floods from one machine, as fast as it can, while clients work.
//!
//! `cargo test -p lb-tests --test lab floods -- --nocapture --test-threads=1` prints what was measured.

use std::{
    fmt::{self, Display},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use etherparse::PacketBuilder;
use lb_tests::{Daemon, Lab, PacketSocket, TcpClient};
use rstest::rstest;
use serde_json::Value;

use super::{attacker, with_macs};
use crate::{
    checks::WENT_DOWN,
    frames::{
        BROADCAST, arp_request, claim, datagram, fragments, in_frame, ip_header, solicitation,
    },
    support::{
        PATIENCE, StopAtEnd, VIP, VIP6, ask_all, lab, number, open, serve_http, serve_tcp,
        serve_udp,
    },
};

/// How long a flood lasts, and how many packets it has at most.
const LENGTH: Duration = Duration::from_secs(2);
const MOST_PACKETS: usize = 2_000_000;
/// Fewer are no flood.
const LEAST_PACKETS: usize = 5_000;
/// Different ones, so that their flows are more than a small session table has places for.
const FRAMES: u32 = 1 << 14;

const SERVICES: &str = "
- {name: shop, vip: 10.9.1.1, protocol: tcp, port: [80, 81], bind: [web-1, web-2]}
- {name: shop6, vip: '2001:db8:9:1::1', protocol: tcp, port: [80, 81], bind: [web6-1, web6-2]}
- {name: dns, vip: 10.9.1.1, protocol: udp, port: [53, 54], bind: [web-1, web-2]}
- {name: dns6, vip: '2001:db8:9:1::1', protocol: udp, port: [53, 54], bind: [web6-1, web6-2]}
";
const DEFAULTS: &str = "
defaults:
  predictor: round_robin
  health: {interval: 500ms, timeout: 500ms, checks: [arp, icmp, http: {port: 80}]}
";

/// The MAC addresses that frames of the attacker have.
fn macs(lab: &Lab) -> [[u8; 6]; 2] {
    [attacker(lab).mac(), lab.balancer().mac()]
}

/// The client and the VIP of the `n`th flow: from an address that no host of the lab has a way to, so that answers
/// cost nobody anything.
fn flow(n: u32, port: u16) -> [SocketAddr; 2] {
    // Neighbours of a flow are no neighbours in its source port.
    let source_port = 1024 + (n.wrapping_mul(40_503) % 60_000) as u16;
    let (source, vip) = if n.is_multiple_of(2) {
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + n);
        (source.into(), VIP)
    } else {
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0);
        (
            Ipv6Addr::from_bits(prefix.to_bits() + u128::from(n)).into(),
            VIP6,
        )
    };
    [
        SocketAddr::new(source, source_port),
        SocketAddr::new(vip.parse().unwrap(), port),
    ]
}

fn syn(ends: [SocketAddr; 2]) -> Vec<u8> {
    let [source, destination] = ends;
    let mut packet = Vec::new();
    PacketBuilder::ip(ip_header(ends.map(|end| end.ip())))
        .tcp(source.port(), destination.port(), 1, 64_240)
        .syn()
        .write(&mut packet, &[])
        .unwrap();
    packet
}

fn syns(lab: &Lab, n: u32) -> Vec<Vec<u8>> {
    vec![in_frame(macs(lab), &syn(flow(n, 80)))]
}

/// To a port that nobody listens at, so that servers can keep up.
fn datagrams(lab: &Lab, n: u32) -> Vec<Vec<u8>> {
    vec![in_frame(macs(lab), &datagram(flow(n, 54), b"?"))]
}

/// By turns the first without the rest, the rest without the first, and two that overlap.
fn pieces(lab: &Lab, n: u32) -> Vec<Vec<u8>> {
    let packet = datagram(flow(n, 54), &[0; 800]);
    let of = |mtu| fragments(&packet, n as u16, mtu);
    let (long, short) = (of(700), of(500));
    let chosen = match n / 2 % 3 {
        0 => vec![&long[0]],
        1 => vec![&long[1]],
        _ => vec![&long[0], &short[1]],
    };
    chosen
        .into_iter()
        .map(|it| in_frame(macs(lab), it))
        .collect()
}

/// By turns pings, and errors about what real servers never sent.
fn pings_and_errors(lab: &Lab, n: u32) -> Vec<Vec<u8>> {
    let [client, vip] = flow(n, 80);
    let ends = [client.ip(), vip.ip()];
    let is_ping = (n / 2).is_multiple_of(2);
    let quote = syn([vip, client]);
    let builder = PacketBuilder::ip(ip_header(ends));
    let mut packet = Vec::new();
    let written = match (is_ping, vip) {
        (true, SocketAddr::V4(_)) => builder
            .icmpv4_echo_request(7, n as u16)
            .write(&mut packet, &[0; 32]),
        (true, SocketAddr::V6(_)) => builder
            .icmpv6_echo_request(7, n as u16)
            .write(&mut packet, &[0; 32]),
        (false, SocketAddr::V4(_)) => builder.icmpv4_raw(3, 1, [0; 4]).write(&mut packet, &quote),
        (false, SocketAddr::V6(_)) => builder.icmpv6_raw(1, 3, [0; 4]).write(&mut packet, &quote),
    };
    written.unwrap();
    vec![in_frame(macs(lab), &packet)]
}

/// By turns questions about the VIPs, and answers about the real servers, with MAC addresses that nobody has.
fn neighbours(lab: &Lab, n: u32) -> Vec<Vec<u8>> {
    let [a, b, c, d] = n.to_be_bytes();
    let [own, balancer] = macs(lab);
    let asks = (n / 2).is_multiple_of(2);
    let server = lab.real_server(1 + n as usize / 4 % 2);
    let claim = |address| claim([own, balancer], [2, 0xff, a, b, c, d], address);
    let frame = match (attacker(lab).v4(), attacker(lab).v6()) {
        (IpAddr::V4(source), _) if n.is_multiple_of(2) => {
            if asks {
                arp_request([own, BROADCAST], source, VIP.parse().unwrap())
            } else {
                claim(server.v4())
            }
        }
        (_, IpAddr::V6(source)) => {
            let vip = VIP6.parse().unwrap();
            if asks {
                solicitation([own, balancer], [source, vip], 255, vip)
            } else {
                claim(server.v6())
            }
        }
        _ => unreachable!(),
    };
    vec![frame]
}

/// How many of the questions that clients asked during a flood were answered.
struct Answers {
    answered: usize,
    asked: usize,
}

impl Answers {
    /// Asks until it is time to stop. `ask` tells of some questions at a time.
    fn until(done: &AtomicBool, ask: impl Fn() -> Vec<bool>) -> Self {
        let mut answers = Vec::new();
        while !done.load(Ordering::Relaxed) {
            answers.extend(ask());
        }
        Self {
            answered: answers.iter().filter(|it| **it).count(),
            asked: answers.len(),
        }
    }

    fn percent(&self) -> f64 {
        100.0 * self.answered as f64 / self.asked as f64
    }
}

impl Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.answered, self.asked)
    }
}

/// How many frames the balancer has received.
fn received(lab: &Lab) -> u64 {
    let links = lab.balancer().ip("-json -statistics link show dev eth0");
    let links: Value = serde_json::from_str(&links).unwrap();
    number(&links[0]["stats64"]["rx"]["packets"])
}

/// New connections find their server as long as their sessions are not pushed out by the flood's before the handshake is
/// over. With a table for so few sessions some are.
const SMALL_TABLE: &str = "limits: {sessions: 2000}\n";

#[rstest]
#[case::of_syns(syns, "", 99.0)]
#[case::of_syns_into_a_small_table(syns, SMALL_TABLE, 90.0)]
#[case::of_datagrams(datagrams, "", 99.0)]
#[case::of_fragments(pieces, "", 99.0)]
#[case::of_pings_and_icmp_errors(pings_and_errors, "", 99.0)]
#[case::of_arp_and_neighbour_discovery(neighbours, "", 99.0)]
fn clients_work_during_a_flood(
    #[case] make: fn(&Lab, u32) -> Vec<Vec<u8>>,
    #[case] limits: &str,
    #[case] least_percent: f64,
) {
    let lab = lab(3);
    let _servers = (
        serve_http(&lab, &[80]),
        serve_tcp(&lab, &[81]),
        serve_udp(&lab, &[53]),
    );
    let config = with_macs(&lab, &lab.config(SERVICES)) + DEFAULTS + limits;
    let _lb = Daemon::start(&lab, &config).unwrap();
    let frames: Vec<_> = (0..FRAMES).flat_map(|n| make(&lab, n)).collect();
    let vips = [VIP, VIP6];
    let connections: Vec<_> = vips
        .iter()
        .flat_map(|vip| open(&lab, (vip, 81), 4))
        .collect();
    let servers = ask_all(&connections);
    let before = received(&lab);

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let established = scope.spawn(|| {
            Answers::until(&done, || {
                let ask = |(connection, server): (&TcpClient, &String)| {
                    connection.ask_for(PATIENCE).unwrap() == *server
                };
                connections.iter().zip(&servers).map(ask).collect()
            })
        });
        let requests = scope.spawn(|| {
            Answers::until(&done, || {
                let http = lab.client().http().parallel(4).timeout(PATIENCE);
                let [v4, v6] = vips.map(|vip| http.get((vip, 80), 10));
                let report = v4.and(v6);
                [
                    vec![true; report.replies.len()],
                    vec![false; report.failures.len()],
                ]
                .concat()
            })
        });
        let datagrams = scope.spawn(|| {
            let ask = |vip| lab.client().udp((vip, 53)).ask("?").is_ok();
            Answers::until(&done, || vips.map(ask).into())
        });
        let flood = PacketSocket::open(attacker(&lab), "eth0");
        let begin = Instant::now();
        let sent = flood.flood(&frames, LENGTH, MOST_PACKETS);
        let per_second = sent as f64 / begin.elapsed().as_secs_f64();
        let received = received(&lab) - before;
        drop(stop);
        let [established, requests, datagrams] =
            [established, requests, datagrams].map(|it| it.join().unwrap());
        println!(
            "{}: {per_second:.0} packets a second; answered on open connections: {established}, \
             on new ones: {requests}, datagrams: {datagrams}",
            thread::current().name().unwrap_or_default(),
        );
        assert!(sent > LEAST_PACKETS, "{sent} packets are no flood");
        assert!(
            received > sent as u64 / 2,
            "{received} of {sent} have arrived"
        );
        assert_eq!(established.answered, established.asked);
        assert!(requests.percent() >= least_percent, "{requests} requests");
        // Nobody sends them again.
        assert!(datagrams.percent() >= 80.0, "{datagrams} datagrams");
    });
    assert!(!lab.log().contains(WENT_DOWN), "{}", lab.log());
}
