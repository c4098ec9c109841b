//! Datagrams in fragments reach one real server each.

use std::{io, net::SocketAddr};

use lb_tests::{Builder, Lab, PacketSocket, UdpClient, UdpReply};
use rstest::rstest;

use crate::{
    frames::{datagram, fragments, in_frame},
    support::{
        DNS, TUNNELS, VIP, VIP6, VIPS, balance, decapsulate, lab, number, serve_udp, with_predictor,
    },
};

/// A client that sends what it likes in fragments.
struct Fragmenter<'a> {
    lab: &'a Lab,
    socket: PacketSocket,
}

impl<'a> Fragmenter<'a> {
    fn new(lab: &'a Lab) -> Self {
        let socket = PacketSocket::open(lab.client(), "eth0");
        Self { lab, socket }
    }

    /// A datagram of a flow to a VIP, as frames.
    fn frames(&self, flow: &UdpClient, vip: &str, payload: &str, mtu: usize) -> Vec<Vec<u8>> {
        let to = SocketAddr::new(vip.parse().unwrap(), 53);
        let packet = datagram([flow.source(), to], payload.as_bytes());
        let macs = [self.lab.client().mac(), self.lab.balancer().mac()];
        fragments(&packet, flow.source().port(), mtu)
            .iter()
            .map(|fragment| in_frame(macs, fragment))
            .collect()
    }
}

#[rstest]
#[case::l2dsr(DNS, &[VIP, VIP6], 1500)]
#[case::l3dsr(TUNNELS, &VIPS, 1460)]
fn datagrams_of_many_clients_with_their_fragments_mixed_are_answered(
    #[case] virtual_servers: &str,
    #[case] vips: &[&str],
    #[case] mtu: usize,
    #[values("hash", "round_robin")] predictor: &str,
) {
    let lab = lab(3);
    let _servers = (serve_udp(&lab, &[53]), decapsulate(&lab, ""));
    let lb = balance(&lab, &with_predictor(virtual_servers, predictor));
    let fragmenter = Fragmenter::new(&lab);
    let payload = "fragment".repeat(500);
    for vip in vips {
        let flows: Vec<_> = (0..24).map(|_| lab.client().udp((*vip, 53))).collect();
        let datagrams: Vec<_> = flows
            .iter()
            .map(|flow| fragmenter.frames(flow, vip, &payload, mtu))
            .collect();
        for position in 0..3 {
            datagrams.iter().for_each(|frames| {
                assert_eq!(frames.len(), 3);
                fragmenter.socket.send(&frames[position]);
            });
        }
        for flow in &flows {
            let UdpReply {
                client_seen,
                payload: echoed,
                ..
            } = flow.receive().unwrap();
            assert_eq!(client_seen, flow.source());
            assert!(echoed == payload, "{vip}: the payload is damaged");
        }
    }
    let drops = &lb.status().unwrap()["drops"];
    assert!(
        drops
            .as_object()
            .unwrap()
            .values()
            .all(|count| number(count) == 0),
        "{drops}"
    );
}

#[rstest]
#[case::to_the_real_servers(Lab::builder())]
#[case::to_the_real_servers_and_back(Lab::builder().client_behind_router(1300))]
fn fragments_that_do_not_fit_become_smaller(#[case] lab: Builder) {
    let lab = lab.build().unwrap();
    let _servers = (serve_udp(&lab, &[53]), decapsulate(&lab, ""));
    let lb = balance(&lab, TUNNELS);
    let payload = "x".repeat(4000);
    for vip in VIPS {
        let flow = lab.client().udp((vip, 53));
        // The client's kernel learns what fits when it is told so once, and so does the server's.
        let answer = (0..4).find_map(|_| flow.ask(&payload).ok());
        assert!(answer.expect("an answer to a later try").payload == payload);
        for _ in 0..10 {
            lab.client().udp((vip, 53)).ask(&payload).unwrap();
        }
    }
    assert_eq!(lb.status().unwrap()["drops"]["too_big"], VIPS.len());
}

#[test]
fn a_fragment_before_the_first_is_dropped_and_counted() {
    let lab = lab(1);
    let _server = serve_udp(&lab, &[53]);
    let lb = balance(&lab, DNS);
    let fragmenter = Fragmenter::new(&lab);
    let payload = "x".repeat(2000);
    for (count, vip) in [(1, VIP), (2, VIP6)] {
        let flow = lab.client().udp((vip, 53));
        let frames = fragmenter.frames(&flow, vip, &payload, 1500);
        assert_eq!(frames.len(), 2);
        frames
            .iter()
            .rev()
            .for_each(|frame| fragmenter.socket.send(frame));
        lb.wait_until("it is counted", |status| {
            status["drops"]["unknown_fragment"] == count
        })
        .unwrap();
        assert_eq!(
            flow.receive().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        // Sent again, it follows the first.
        fragmenter.socket.send(&frames[1]);
        assert!(flow.receive().unwrap().payload == payload);
    }
}
