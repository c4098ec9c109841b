//! ICMP errors about a real server's packet reach that real server.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use etherparse::{Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice};
use lb_tests::{Builder, Host, Lab, PacketSocket};
use rstest::rstest;
use socket2::{Domain, Socket, Type};

use crate::support::{
    DNS, PATIENCE, TUNNELS, VIP, VIP6, VIPS, balance, decapsulate, serve_udp, wait_until,
    with_predictor,
};

/// A socket of a server for one client, which is told of ICMP errors.
fn connection(server: &Host, from: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    server.run(|| {
        let socket = Socket::new(Domain::for_address(from), Type::DGRAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        Ok(socket.into())
    })
}

#[rstest]
#[case::l2dsr(DNS, &[VIP, VIP6], Lab::builder().real_servers(3))]
#[case::l3dsr(TUNNELS, &VIPS, Lab::builder().real_servers(1).behind_router(2))]
fn a_real_server_learns_that_the_client_closed_its_port(
    #[case] virtual_servers: &str,
    #[case] vips: &[&str],
    #[case] lab: Builder,
    #[values("hash", "round_robin")] predictor: &str,
) {
    let lab = lab.build().unwrap();
    let _servers = (serve_udp(&lab, &[53]), decapsulate(&lab, ""));
    let _lb = balance(&lab, &with_predictor(virtual_servers, predictor));
    // Each answer to one client's address gets its error.
    let unlimited = [("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")];
    lab.client().sysctls(&unlimited).unwrap();
    for vip in vips {
        let vip = SocketAddr::new(vip.parse().unwrap(), 53);
        for _ in 0..10 {
            let flow = lab.client().udp(vip);
            let (client, name) = (flow.source(), flow.ask("?").unwrap().server);
            drop(flow);
            let mut servers = lab.real_servers().iter();
            let server = servers.find(|host| host.name() == name).unwrap();
            let late = connection(server, vip, client).unwrap();
            // A process that is just being started elsewhere may hold the client's port open a little longer.
            wait_until(&format!("{name} is told about {vip}"), || {
                let told = late.send(&[0]).and_then(|_| late.recv(&mut [0]));
                told.unwrap_err().kind() == ErrorKind::ConnectionRefused
            });
        }
    }
}

#[test]
fn a_real_server_learns_that_its_answer_got_lost_in_a_loop() {
    let lab = Lab::builder()
        .real_servers(0)
        .behind_router(3)
        .build()
        .unwrap();
    let _servers = (serve_udp(&lab, &[53]), decapsulate(&lab, ""));
    let _lb = balance(&lab, TUNNELS);
    for vip in VIPS {
        let flow = lab.client().udp((vip, 53));
        let name = flow.ask("?").unwrap().server;
        let mut servers = lab.real_servers().iter();
        let server = servers.find(|host| host.name() == name).unwrap();
        let gateway = if vip.contains(':') {
            "2001:db8:b::254"
        } else {
            "10.11.0.254"
        };
        let set_hop_limit = |hops| {
            server.ip(&format!(
                "route change default via {gateway} hoplimit {hops}"
            ));
        };
        let arrived = PacketSocket::open(server, "eth0");
        // The router finds it used up.
        set_hop_limit(1);
        flow.send("?").unwrap();
        let time_exceeded = |frame: &[u8]| {
            let packet = SlicedPacket::from_ethernet(frame).ok();
            match packet.and_then(|packet| packet.transport) {
                Some(TransportSlice::Icmpv4(icmp)) => {
                    matches!(icmp.icmp_type(), Icmpv4Type::TimeExceeded(_))
                }
                Some(TransportSlice::Icmpv6(icmp)) => {
                    matches!(icmp.icmp_type(), Icmpv6Type::TimeExceeded(_))
                }
                _ => false,
            }
        };
        assert!(
            arrived.receive(PATIENCE, time_exceeded).is_some(),
            "{name} is not told about {vip}"
        );
        set_hop_limit(64);
    }
}
