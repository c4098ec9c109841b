//! ICMP errors from a machine that no packet of a flow passes: they go to the flow's real server, whose kernel knows better,
//! and leave the session as it is.

use std::net::{IpAddr, SocketAddr};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use lb_tests::{Daemon, Lab, PacketSocket, TcpClient, named};
use rstest::rstest;
use serde_json::Value;

use super::attacker;
use crate::{
    frames::{datagram, in_frame, ip_header},
    mtu::path_mtu,
    sessions::services,
    sessions_cli::sessions,
    support::{PATIENCE, VIP, VIP6, balance_few, lab, number, serve_tcp, serve_udp},
};

/// A packet of the VIP with this sequence number.
fn segment(ends: [SocketAddr; 2], sequence: u32) -> Vec<u8> {
    let [vip, client] = ends;
    let mut packet = Vec::new();
    PacketBuilder::ip(ip_header(ends.map(|end| end.ip())))
        .tcp(vip.port(), client.port(), sequence, 64_240)
        .ack(1)
        .write(&mut packet, b"x")
        .unwrap();
    packet
}

/// Every error about a packet of the VIP that there is, in frames of the attacker. Those that name an MTU name the least.
fn errors(lab: &Lab, vip: SocketAddr, packet: &[u8]) -> Vec<Vec<u8>> {
    const LEAST_MTU_V4: [u8; 4] = [0, 0, 0, 68];
    const LEAST_MTU_V6: [u8; 4] = 1280_u32.to_be_bytes();

    let attacker = attacker(lab);
    // Unreachable, time exceeded, parameter problem; too big, in IPv6.
    let (source, kinds, rest): (_, &[(u8, u8)], _) = match vip {
        SocketAddr::V4(_) => (attacker.v4(), &[(3, 16), (11, 2), (12, 3)], LEAST_MTU_V4),
        SocketAddr::V6(_) => (
            attacker.v6(),
            &[(1, 8), (2, 1), (3, 2), (4, 3)],
            LEAST_MTU_V6,
        ),
    };
    let codes = kinds
        .iter()
        .flat_map(|&(kind, codes)| (0..codes).map(move |code| (kind, code)));
    let error = |(kind, code)| {
        let mut error = Vec::new();
        let builder = PacketBuilder::ip(ip_header([source, vip.ip()]));
        match vip {
            SocketAddr::V4(_) => builder
                .icmpv4_raw(kind, code, rest)
                .write(&mut error, packet),
            SocketAddr::V6(_) => builder
                .icmpv6_raw(kind, code, rest)
                .write(&mut error, packet),
        }
        .unwrap();
        in_frame([attacker.mac(), lab.balancer().mac()], &error)
    };
    codes.map(error).collect()
}

/// The sequence number that follows on what a server has sent: only who sees its packets knows it.
fn next_sequence_number(lab: &Lab, connection: &TcpClient) -> u32 {
    let seen = PacketSocket::open(lab.client(), "eth0");
    connection.ask().unwrap();
    let to_connection = |frame: &[u8]| {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        match packet.transport? {
            TransportSlice::Tcp(tcp) if tcp.destination_port() == connection.source().port() => {
                let length = tcp.payload().len() as u32;
                (length > 0).then(|| tcp.sequence_number().wrapping_add(length))
            }
            _ => None,
        }
    };
    let answer = seen.receive(PATIENCE, |frame| to_connection(frame).is_some());
    to_connection(&answer.expect("the answer")).expect("a segment")
}

/// All sessions, but for the time.
fn listed(lab: &Lab) -> Vec<String> {
    let mut sessions = sessions(lab, "");
    for session in &mut sessions {
        let session = session.as_object_mut().unwrap();
        session.retain(|key, _| !key.ends_with("_seconds"));
    }
    let mut sessions: Vec<_> = sessions.iter().map(Value::to_string).collect();
    sessions.sort_unstable();
    sessions
}

/// Sends frames to the balancer, and waits until all of them have been forwarded.
fn forward(lab: &Lab, lb: &Daemon<'_>, virtual_server: &str, frames: &[Vec<u8>]) {
    let socket = PacketSocket::open(attacker(lab), "eth0");
    let packets =
        |status: &Value| number(&named(&status["virtual_servers"], virtual_server)["packets"]);
    let before = packets(&lb.status().unwrap());
    frames.iter().for_each(|frame| socket.send(frame));
    let forwarded = |status: &Value| packets(status) >= before + frames.len() as u64;
    lb.wait_until("all errors are forwarded", forwarded)
        .unwrap();
}

#[rstest]
fn a_forged_error_neither_ends_nor_moves_a_session(#[values(VIP, VIP6)] vip: &str) {
    let lab = lab(3);
    let _servers = (serve_tcp(&lab, &[80]), serve_udp(&lab, &[53]));
    let services = services("predictor: round_robin", "web-1, web-2");
    let lb = balance_few(&lab, &services);
    let connection = lab.client().tcp((vip, 80)).unwrap();
    let flow = lab.client().udp((vip, 53));
    let ask = || (connection.ask().unwrap(), flow.ask("?").unwrap().server);
    let servers = ask();
    assert_eq!(ask(), servers);
    let sequence = next_sequence_number(&lab, &connection);
    let before = listed(&lab);
    assert_eq!(before.len(), 2);

    let vip: IpAddr = vip.parse().unwrap();
    let [tcp, udp] = match vip {
        IpAddr::V4(_) => ["shop", "dns"],
        IpAddr::V6(_) => ["shop6", "dns6"],
    };
    let at = |port| SocketAddr::new(vip, port);
    let client = connection.source();
    let next_to_it = SocketAddr::new(client.ip(), client.port() ^ 1);
    let path_mtu = || {
        let to_client = client.ip().to_string();
        let servers = lab.real_servers().iter();
        servers.filter_map(|it| path_mtu(it, &to_client)).count()
    };
    let guesses = [
        segment([at(80), client], sequence.wrapping_add(1 << 30)),
        segment([at(80), client], sequence.wrapping_sub(1 << 30)),
        segment([at(80), next_to_it], sequence),
    ];
    for guess in guesses {
        forward(&lab, &lb, tcp, &errors(&lab, at(80), &guess));
        assert_eq!(ask(), servers);
    }
    assert_eq!(path_mtu(), 0, "a server believes who can't know");

    // The kernel of a real server believes who knows the sequence number, and of UDP everybody: of the path MTU alone.
    let seen = segment([at(80), client], sequence);
    forward(&lab, &lb, tcp, &errors(&lab, at(80), &seen));
    for client in [flow.source(), next_to_it] {
        let datagram = datagram([at(53), client], b"x");
        forward(&lab, &lb, udp, &errors(&lab, at(53), &datagram));
    }
    assert!(path_mtu() > 0, "no error has reached a server");
    assert_eq!(ask(), servers);
    assert_eq!(listed(&lab), before);
}
