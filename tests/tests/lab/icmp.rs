//! ICMP errors about a real server's packet reach that real server.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use lb_tests::{Builder, Host, Lab};
use rstest::rstest;
use socket2::{Domain, Socket, Type};

use crate::support::{DNS, TUNNELS, VIP, VIP6, VIPS, balance, decapsulate, serve_udp, wait_until};

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
) {
    let lab = lab.build().unwrap();
    let _servers = (serve_udp(&lab, &[53]), decapsulate(&lab, ""));
    let _lb = balance(&lab, virtual_servers);
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
