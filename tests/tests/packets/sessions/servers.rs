//! Sessions while servers come and go.

use lb_common::DropReason::{NoRealServer, ServerDownReset};
use lb_ebpf::Verdict;

use super::{
    balancer::{
        Balancer, DOWN_RESET, HASH, SERVERS, TURNS, ack, client, counted_drop, fin, rst, tcp, udp,
    },
    resets,
};
use crate::{
    backend::{Backend, Observed},
    frames::{Flow, Segment},
};

/// Sessions on all servers: each segment with its server.
fn sessions(balancer: &mut Balancer<'_, impl Backend>, flow: Flow) -> Vec<(Segment, usize)> {
    (40_000..40_009)
        .map(|port| {
            let segment = client(flow, TURNS, port);
            let server = balancer.begin(TURNS, &segment);
            (segment, server)
        })
        .collect()
}

fn packet(segment: &Segment) -> Segment {
    if segment.flow.protocol.is_tcp() {
        ack(segment)
    } else {
        segment.clone()
    }
}

pub fn sessions_of_a_server_that_is_down_move(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        let sessions = sessions(balancer, flow);
        balancer.take_down(1);
        for (segment, server) in &sessions {
            let seen = balancer.run(&packet(segment).frame());
            let (now, began) = balancer.server(TURNS, flow, &seen);
            let moved = balancer.counted(TURNS, flow, now, &seen).moved;
            assert_eq!((began, moved), (0, u64::from(now != *server)), "{flow}");
            assert_ne!(now, 1, "{flow}");
            assert!(
                now == *server || *server == 1,
                "{flow}: from {server} to {now}"
            );
            assert_eq!(balancer.follow(TURNS, &packet(segment)), now, "{flow}");
        }
        let active = balancer.active(TURNS, flow);
        assert_eq!(
            (active[1], active.iter().sum::<u64>()),
            (0, 9),
            "{flow}: {active:?}"
        );
        // With nowhere to go they wait.
        let (segment, server) = &sessions[0];
        balancer.with_server(*server, |_| {});
        for server in 0..SERVERS.len() {
            if server != 1 {
                balancer.take_down(server);
            }
        }
        balancer.restore();
        let stays = balancer.follow(TURNS, &packet(segment));
        assert!(stays == *server || *server == 1, "{flow}");
        balancer.backend.forget();
    }
}

pub fn sessions_of_a_server_that_is_down_are_reset(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let segments = [40_000, 40_001, 40_002].map(|port| client(flow, DOWN_RESET, port));
        let servers = segments.each_ref().map(|it| balancer.begin(DOWN_RESET, it));
        let down = servers[0];
        balancer.take_down(down);
        assert_eq!(balancer.follow(DOWN_RESET, &ack(&segments[1])), servers[1]);
        let seen = balancer.run(&ack(&segments[0]).frame());
        let expected = Observed {
            verdict: Verdict::Transmit,
            output: resets::answer(&ack(&segments[0])),
            counted: [counted_drop(ServerDownReset)].into(),
        };
        assert_eq!(seen, expected, "{flow}");
        assert_eq!(balancer.active(DOWN_RESET, flow)[down], 0, "{flow}");
        balancer.restore();
        // It is gone for good.
        assert_eq!(balancer.sent(DOWN_RESET, &ack(&segments[0])).1, 1, "{flow}");
        balancer.backend.forget();
    }
}

/// A RST has no answer, and ends the session all the same.
pub fn a_client_ends_its_session_on_a_server_that_is_down(
    balancer: &mut Balancer<'_, impl Backend>,
) {
    for flow in tcp() {
        for service in [TURNS, DOWN_RESET] {
            let segment = client(flow, service, 40_000);
            let server = balancer.begin(service, &segment);
            balancer.take_down(server);
            assert_eq!(balancer.active(service, flow)[server], 1, "{flow}");
            let seen = balancer.run(&rst(&segment).frame());
            assert_eq!(seen.verdict, Verdict::Drop(NoRealServer), "{flow}");
            assert_eq!(balancer.active(service, flow)[server], 0, "{flow}");
            balancer.restore();
            balancer.backend.forget();
        }
    }
}

/// Its client has no connection yet, or none any more.
pub fn a_syn_whose_server_is_down_goes_to_another_one(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let syn = client(flow, DOWN_RESET, 40_000);
        let down = balancer.begin(DOWN_RESET, &syn);
        balancer.take_down(down);
        let server = balancer.sent(DOWN_RESET, &syn).0;
        assert_ne!(server, down, "{flow}");
        assert_eq!(balancer.follow(DOWN_RESET, &ack(&syn)), server, "{flow}");
        balancer.restore();
        balancer.backend.forget();
    }
}

/// The interface has another MAC address since the server's entry was made: frames are for the interface's.
pub fn a_server_that_knows_a_former_mac_address_of_the_interface_keeps_its_sessions(
    balancer: &mut Balancer<'_, impl Backend>,
) {
    const FORMER: [u8; 6] = [2, 0, 0, 0, 0, 0xf0];

    for flow in Flow::all() {
        let sessions = sessions(balancer, flow);
        balancer.with_server(1, |member| {
            let link = member.link.as_mut().expect("all are up");
            link.source_mac = FORMER;
        });
        for (segment, server) in &sessions {
            assert_eq!(balancer.follow(TURNS, &packet(segment)), *server, "{flow}");
        }
        // It is down before its entry is made anew.
        balancer.take_down(1);
        for (segment, _) in &sessions {
            assert_ne!(balancer.follow(TURNS, &packet(segment)), 1, "{flow}");
        }
        balancer.restore();
        balancer.backend.forget();
    }
}

pub fn a_server_that_comes_back_takes_no_session(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        balancer.take_down(1);
        let sessions = sessions(balancer, flow);
        assert!(sessions.iter().all(|&(_, server)| server != 1), "{flow}");
        balancer.restore();
        for (segment, server) in &sessions {
            assert_eq!(balancer.follow(TURNS, &packet(segment)), *server, "{flow}");
        }
        balancer.backend.forget();
    }
}

pub fn a_drained_server_keeps_its_sessions(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let before = sessions(balancer, flow);
        balancer.drain(1);
        for (segment, server) in &before {
            assert_eq!(balancer.follow(TURNS, &ack(segment)), *server, "{flow}");
        }
        for port in 41_000..41_006 {
            assert_ne!(
                balancer.begin(TURNS, &client(flow, TURNS, port)),
                1,
                "{flow}"
            );
        }
        let of_drained = before.iter().filter(|&&(_, server)| server == 1);
        for (segment, _) in of_drained {
            assert_eq!(balancer.follow(TURNS, &fin(segment)), 1, "{flow}");
        }
        assert_eq!(balancer.active(TURNS, flow)[1], 0, "{flow}");
        balancer.restore();
        balancer.backend.forget();
    }
}

/// By the hash, too, which would choose others.
pub fn no_session_moves_when_servers_come_and_go(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp().into_iter().chain(udp()) {
        for service in [HASH, TURNS] {
            balancer.drain(0);
            let sessions: Vec<_> = (40_000..40_040)
                .map(|port| {
                    let segment = client(flow, service, port);
                    let server = balancer.begin(service, &segment);
                    (segment, server)
                })
                .collect();
            balancer.restore();
            balancer.with_server(1, |member| member.weight = 7);
            balancer.drain(2);
            for (segment, server) in &sessions {
                assert_eq!(
                    balancer.follow(service, &packet(segment)),
                    *server,
                    "{flow}"
                );
            }
            balancer.restore();
            balancer.backend.forget();
        }
    }
}
