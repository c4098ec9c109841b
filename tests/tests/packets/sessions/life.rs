//! How sessions begin and end.

use super::balancer::{Balancer, HASH, SERVERS, TURNS, ack, client, fin, rst, tcp, udp};
use crate::{
    backend::Backend,
    cases::icmp_errors,
    frames::{Flow, STRANGER_MAC, Segment},
};

/// The servers of two flows, whose sessions begin one after the other.
fn two_sessions(
    balancer: &mut Balancer<'_, impl Backend>,
    flow: Flow,
) -> ([Segment; 2], [usize; 2]) {
    let segments = [40_001, 40_002].map(|port| client(flow, TURNS, port));
    let servers = segments
        .each_ref()
        .map(|segment| balancer.begin(TURNS, segment));
    assert_ne!(servers[0], servers[1], "a round robin");
    (segments, servers)
}

pub fn a_syn_begins_a_session_that_its_packets_follow(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let (segments, servers) = two_sessions(balancer, flow);
        for (segment, server) in segments.iter().zip(servers).rev() {
            for packet in [ack(segment), ack(segment), segment.clone(), ack(segment)] {
                assert_eq!(balancer.follow(TURNS, &packet), server, "{flow}");
            }
        }
        let active = balancer.active(TURNS, flow);
        assert_eq!(servers.map(|server| active[server]), [1, 1], "{flow}");
    }
}

pub fn a_rst_ends_a_session(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let (segments, servers) = two_sessions(balancer, flow);
        assert_eq!(balancer.follow(TURNS, &rst(&segments[0])), servers[0]);
        assert_eq!(balancer.active(TURNS, flow)[servers[0]], 0, "{flow}");
        assert_eq!(balancer.active(TURNS, flow)[servers[1]], 1, "{flow}");
        // Nothing is left of it: whatever comes now is a new one, on the third server.
        let third = balancer.begin(TURNS, &segments[0]);
        assert!(!servers.contains(&third), "{flow}: {third} of {servers:?}");
    }
}

pub fn a_fin_closes_a_session_that_packets_follow_still(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let (segments, servers) = two_sessions(balancer, flow);
        for packet in [ack(&segments[0]), fin(&segments[0])] {
            assert_eq!(balancer.follow(TURNS, &packet), servers[0], "{flow}");
        }
        assert_eq!(balancer.active(TURNS, flow)[servers[0]], 0, "{flow}");
        for packet in [ack(&segments[0]), fin(&segments[0]), ack(&segments[0])] {
            assert_eq!(balancer.follow(TURNS, &packet), servers[0], "{flow}");
        }
        assert_eq!(balancer.follow(TURNS, &rst(&segments[0])), servers[0]);
        let active = balancer.active(TURNS, flow);
        assert_eq!(active.iter().sum::<u64>(), 1, "{flow}: {active:?}");
    }
}

pub fn a_syn_begins_anew_at_a_closed_session_alone(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let ([segment, _], servers) = two_sessions(balancer, flow);
        assert_eq!(balancer.follow(TURNS, &ack(&segment)), servers[0]);
        assert_eq!(
            balancer.follow(TURNS, &segment),
            servers[0],
            "{flow}: RFC 5961"
        );
        assert_eq!(balancer.follow(TURNS, &fin(&segment)), servers[0]);
        let third = balancer.begin(TURNS, &segment);
        assert!(!servers.contains(&third), "{flow}: {third} of {servers:?}");
        assert_eq!(balancer.follow(TURNS, &ack(&segment)), third);
        let active = balancer.active(TURNS, flow);
        assert_eq!((active[third], active[servers[0]]), (1, 0), "{flow}");
    }
}

pub fn a_udp_packet_begins_a_session(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in udp() {
        let (segments, servers) = two_sessions(balancer, flow);
        for _ in 0..3 {
            for (segment, server) in segments.iter().zip(servers) {
                assert_eq!(balancer.follow(TURNS, segment), server, "{flow}");
            }
        }
        let active = balancer.active(TURNS, flow);
        assert_eq!(servers.map(|server| active[server]), [1, 1], "{flow}");
    }
}

pub fn icmp_errors_go_to_the_session_and_leave_it_alone(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        let (segments, servers) = two_sessions(balancer, flow);
        for (segment, server) in segments.iter().zip(servers) {
            // The server's answer, with any flags, is too big for the client.
            let answer = rst(segment).reversed();
            let error = icmp_errors::error(&answer, &icmp_errors::least(&answer));
            let seen = balancer.run(&error);
            assert_eq!(balancer.server(TURNS, flow, &seen), (server, 0), "{flow}");
            assert_eq!(balancer.active(TURNS, flow)[server], 1, "{flow}");
        }
        // About no session: it begins none.
        let stranger = client(flow, HASH, 41_000).reversed();
        let error = icmp_errors::error(&stranger, &icmp_errors::least(&stranger));
        let seen = balancer.run(&error);
        assert_eq!(balancer.server(HASH, flow, &seen).1, 0, "{flow}");
        assert_eq!(balancer.active(HASH, flow), [0; 3], "{flow}");
    }
}

pub fn fragments_follow_their_session(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in udp() {
        let (segments, servers) = two_sessions(balancer, flow);
        for (number, (segment, server)) in (1..).zip(segments.iter().zip(servers)) {
            let datagram = segment.with(|it| {
                it.payload = vec![7; 64];
                it.identification = number;
            });
            let length = datagram.fragmentable_length();
            for bytes in [0..32, 32..length] {
                let seen = balancer.run(&datagram.fragment(bytes));
                assert_eq!(balancer.server(TURNS, flow, &seen), (server, 0), "{flow}");
            }
        }
    }
}

pub fn frames_for_others_leave_sessions_alone(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let ([segment, _], [server, _]) = two_sessions(balancer, flow);
        let new = [TURNS, HASH].map(|port| client(flow, port, 42_000));
        for packet in [rst(&segment), fin(&segment), ack(&segment)]
            .iter()
            .chain(&new)
        {
            let flooded = packet.with(|it| it.destination_mac = STRANGER_MAC).frame();
            let seen = balancer.run(&flooded);
            assert_eq!(
                (seen.verdict, seen.output),
                (lb_ebpf::Verdict::Pass, flooded)
            );
        }
        let active = [TURNS, HASH].map(|port| balancer.active(port, flow).iter().sum::<u64>());
        assert_eq!(active, [2, 0], "{flow}");
        assert_eq!(balancer.follow(TURNS, &ack(&segment)), server, "{flow}");
    }
}

/// All of them agree, with sessions or without, and with any predictor.
pub fn a_packet_in_mid_stream_goes_where_the_hash_decides(
    balancer: &mut Balancer<'_, impl Backend>,
) {
    for flow in tcp() {
        let mut used = [false; 3];
        for port in 43_000..43_032 {
            let segment = client(flow, HASH, port);
            let server = balancer.begin(HASH, &ack(&segment));
            assert_eq!(balancer.follow(HASH, &ack(&segment)), server, "{flow}");
            assert_eq!(balancer.follow(HASH, &rst(&segment)), server, "{flow}");
            // A RST and a FIN, too; but a RST begins nothing.
            assert_eq!(balancer.follow(HASH, &rst(&segment)), server, "{flow}");
            assert_eq!(balancer.begin(HASH, &fin(&segment)), server, "{flow}");
            assert_eq!(balancer.follow(HASH, &rst(&segment)), server, "{flow}");
            assert_eq!(balancer.begin(HASH, &segment), server, "{flow}");
            used[server] = true;
        }
        assert_eq!(used, [true; SERVERS.len()], "{flow}");
    }
}
