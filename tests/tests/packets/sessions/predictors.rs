//! Which server a new session goes to.

use super::balancer::{
    Balancer, LEAST, LEAST_WEIGHTS, SOURCE, TURNS, WEIGHTS, ack, client, neighbour, rst, tcp,
};
use crate::backend::Backend;

pub fn a_round_robin_has_an_exact_order(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let servers: Vec<_> = (40_000..40_030)
            .map(|port| {
                let segment = client(flow, TURNS, port);
                let server = balancer.begin(TURNS, &segment);
                // Packets of sessions take no turn.
                assert_eq!(balancer.follow(TURNS, &ack(&segment)), server);
                server
            })
            .collect();
        let first: Vec<_> = servers[..3].to_vec();
        assert!(
            (0..3).all(|server| first.contains(&server)),
            "{flow}: {servers:?}"
        );
        assert!(
            servers.chunks(3).all(|turn| turn == first),
            "{flow}: {servers:?}"
        );
    }
}

pub fn a_weighted_round_robin_is_exact_to_the_session(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let mut counts = [0; 3];
        for port in 40_000..40_060 {
            counts[balancer.begin(WEIGHTS, &client(flow, WEIGHTS, port))] += 1;
        }
        assert_eq!(counts, [10, 20, 30], "{flow}");
    }
}

pub fn the_least_connections_are_filled_up(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let segments: Vec<_> = (40_000..40_030)
            .map(|port| client(flow, LEAST, port))
            .collect();
        let servers: Vec<_> = segments
            .iter()
            .map(|segment| balancer.begin(LEAST, segment))
            .collect();
        assert_eq!(balancer.active(LEAST, flow), [10; 3], "{flow}: {servers:?}");
        // Four sessions of one server end: it gets the next four.
        let of_first = segments
            .iter()
            .zip(&servers)
            .filter(|&(_, &server)| server == 1);
        for (segment, _) in of_first.take(4) {
            assert_eq!(balancer.follow(LEAST, &rst(segment)), 1);
        }
        for port in 41_000..41_004 {
            assert_eq!(
                balancer.begin(LEAST, &client(flow, LEAST, port)),
                1,
                "{flow}"
            );
        }
        assert_eq!(balancer.active(LEAST, flow), [10; 3], "{flow}");
    }
}

pub fn the_least_connections_in_relation_to_weights(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        for port in 40_000..40_060 {
            balancer.begin(LEAST_WEIGHTS, &client(flow, LEAST_WEIGHTS, port));
        }
        assert_eq!(balancer.active(LEAST_WEIGHTS, flow), [10, 20, 30], "{flow}");
    }
}

pub fn a_client_has_one_server_by_its_address(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let mut used = [false; 3];
        for number in 1..30 {
            let of_client = |port| neighbour(&client(flow, SOURCE, port), number);
            let server = balancer.begin(SOURCE, &of_client(40_000));
            for port in 40_001..40_005 {
                assert_eq!(balancer.begin(SOURCE, &of_client(port)), server, "{flow}");
            }
            assert_eq!(
                balancer.begin(SOURCE, &ack(&of_client(40_005))),
                server,
                "{flow}"
            );
            used[server] = true;
        }
        assert_eq!(used, [true; 3], "{flow}");
    }
}

/// With few sessions, too, all servers have work.
pub fn servers_with_equally_few_connections_take_turns(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let mut counts = [0; 3];
        for port in 40_000..40_030 {
            let segment = client(flow, LEAST, port);
            counts[balancer.begin(LEAST, &segment)] += 1;
            balancer.follow(LEAST, &rst(&segment));
        }
        assert_eq!(counts, [10; 3], "{flow}");
    }
}
