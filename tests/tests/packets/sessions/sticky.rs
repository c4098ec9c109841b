//! Clients that stay.

use super::balancer::{Balancer, NETWORKS, STICKY, STICKY_TOO, client, neighbour, rst};
use crate::{backend::Backend, frames::Flow};

pub fn a_client_stays_across_sessions_and_ports(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        let mut used = [false; 3];
        for number in 1..10 {
            let of_client = |port| neighbour(&client(flow, STICKY, port), number);
            let server = balancer.begin(STICKY, &of_client(40_000));
            for port in 40_001..40_004 {
                assert_eq!(balancer.begin(STICKY, &of_client(port)), server, "{flow}");
                let too = of_client(port).with(|it| it.destination_port = STICKY_TOO);
                assert_eq!(balancer.begin(STICKY, &too), server, "{flow}");
            }
            used[server] = true;
        }
        assert_eq!(used, [true; 3], "{flow}");
    }
}

pub fn a_prefix_of_clients_stays_together(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        let segment = client(flow, NETWORKS, 40_000);
        let server = balancer.begin(NETWORKS, &segment);
        for number in 1..20 {
            let client = neighbour(&segment, number).with(|it| it.source_port = 41_000);
            assert_eq!(balancer.begin(NETWORKS, &client), server, "{flow}");
        }
        let elsewhere = segment.with(|it| it.source = flow.family.router());
        assert_ne!(
            balancer.begin(NETWORKS, &elsewhere),
            server,
            "{flow}: a round robin"
        );
    }
}

pub fn a_client_leaves_a_server_that_is_drained_or_down(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        for down in [false, true] {
            let of_client = |port| client(flow, STICKY, port);
            let server = balancer.begin(STICKY, &of_client(40_000));
            if down {
                balancer.take_down(server);
            } else {
                balancer.drain(server);
            }
            let next = balancer.begin(STICKY, &of_client(40_001));
            assert_ne!(next, server, "{flow}");
            for port in 40_002..40_005 {
                assert_eq!(balancer.begin(STICKY, &of_client(port)), next, "{flow}");
            }
            // When it is back the client stays where it is now.
            balancer.restore();
            assert_eq!(balancer.begin(STICKY, &of_client(40_006)), next, "{flow}");
            if flow.protocol.is_tcp() {
                balancer.follow(STICKY, &rst(&of_client(40_006)));
                assert_eq!(balancer.begin(STICKY, &of_client(40_006)), next, "{flow}");
            }
            balancer.backend.forget();
        }
    }
}
