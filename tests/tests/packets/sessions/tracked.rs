//! Virtual servers that track changes alone: flows have sessions only where a change would move them.

use std::time::Duration;

use lb_user::control::Desired;

use super::balancer::{Balancer, TRACKED, ack, client, fin, rst, tcp};
use crate::{
    backend::Backend,
    fixture,
    frames::{Flow, Segment},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Many flows, each with its server, which have no sessions.
fn flows(balancer: &mut Balancer<'_, impl Backend>, flow: Flow) -> Vec<(Segment, usize)> {
    let segments = (40_000..40_050).map(|port| client(flow, TRACKED, port));
    let flows: Vec<_> = segments
        .map(|segment| {
            let server = balancer.follow(TRACKED, &segment);
            (segment, server)
        })
        .collect();
    assert!((0..3).all(|server| flows.iter().any(|&(_, it)| it == server)));
    flows
}

/// A later packet of a flow.
fn later(segment: &Segment) -> Segment {
    if segment.flow.protocol.is_tcp() {
        ack(segment)
    } else {
        segment.clone()
    }
}

/// Each flow goes where it was, and begins no session.
fn assert_all_stay(balancer: &mut Balancer<'_, impl Backend>, flows: &[(Segment, usize)]) {
    for (segment, server) in flows {
        assert_eq!(balancer.follow(TRACKED, &later(segment)), *server);
    }
}

/// Each flow stays where it was. How many sessions have begun on each server.
fn recorded(balancer: &mut Balancer<'_, impl Backend>, flows: &[(Segment, usize)]) -> [u64; 3] {
    let mut recorded = [0; 3];
    for (segment, server) in flows {
        let (now, began) = balancer.sent(TRACKED, &later(segment));
        assert_eq!(now, *server);
        recorded[now] += began;
    }
    recorded
}

/// The time to settle goes by, and packets that were under way have been forwarded.
fn settle(balancer: &mut Balancer<'_, impl Backend>, wanted: &Desired) {
    balancer.backend.reconcile_after(wanted, HOUR);
    balancer.backend.reconcile_after(wanted, 2 * HOUR);
}

pub fn flows_have_no_session_while_nothing_changes(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        let flows = flows(balancer, flow);
        assert_all_stay(balancer, &flows);
        if flow.protocol.is_tcp() {
            for (segment, server) in &flows {
                for packet in [fin(segment), rst(segment)] {
                    assert_eq!(balancer.follow(TRACKED, &packet), *server);
                }
            }
        }
        assert_eq!(balancer.active(TRACKED, flow), [0; 3], "{flow}");
    }
}

pub fn flows_stay_on_a_server_that_drains(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        let flows = flows(balancer, flow);
        let of_second = flows.iter().filter(|&&(_, server)| server == 1).count();
        let drained = balancer.wanted_with(1, |member| member.drain = true);
        balancer.backend.reconcile(&drained);
        let recorded = recorded(balancer, &flows);
        assert_eq!(recorded[1], of_second as u64, "{flow}: {recorded:?}");
        assert_eq!(balancer.active(TRACKED, flow), recorded, "{flow}");
        assert_all_stay(balancer, &flows);
        if flow.protocol.is_tcp() {
            for port in 50_000..50_050 {
                let (server, _) = balancer.sent(TRACKED, &client(flow, TRACKED, port));
                assert_ne!(server, 1, "{flow}: a connection that begins");
            }
        }
        settle(balancer, &drained);
        assert_all_stay(balancer, &flows);
        for port in 60_000..60_050 {
            let packet = later(&client(flow, TRACKED, port));
            assert_ne!(balancer.follow(TRACKED, &packet), 1, "{flow}");
        }
        balancer.restore();
        settle(balancer, &fixture::wanted(&super::balancer::config()));
        assert_all_stay(balancer, &flows);
    }
}

pub fn a_server_that_fails_loses_its_flows_alone(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in Flow::all() {
        let mut flows = flows(balancer, flow);
        balancer.take_down(1);
        for (segment, server) in &mut flows {
            let now = balancer.follow(TRACKED, &later(segment));
            assert!(now != 1 && (now == *server || *server == 1), "{flow}");
            *server = now;
        }
        assert_eq!(balancer.active(TRACKED, flow), [0; 3], "{flow}");
        // When it is back they stay where they are, and connections that begin go there.
        balancer.restore();
        recorded(balancer, &flows);
        if flow.protocol.is_tcp() {
            let mut begin = |port| balancer.sent(TRACKED, &client(flow, TRACKED, port)).0;
            assert!((50_000..50_050).any(|port| begin(port) == 1), "{flow}");
        }
        settle(balancer, &fixture::wanted(&super::balancer::config()));
        assert_all_stay(balancer, &flows);
        // Some of them have sessions on another server than their slots now. If that fails, they go on.
        balancer.take_down(0);
        for (segment, server) in &flows {
            let (now, _) = balancer.sent(TRACKED, &later(segment));
            assert!(now != 0 && (now == *server || *server == 0), "{flow}");
        }
        balancer.restore();
        balancer.backend.forget();
        settle(balancer, &fixture::wanted(&super::balancer::config()));
    }
}

pub fn a_client_begins_anew_at_a_tracked_session(balancer: &mut Balancer<'_, impl Backend>) {
    for flow in tcp() {
        let flows = flows(balancer, flow);
        let drained = balancer.wanted_with(1, |member| member.drain = true);
        balancer.backend.reconcile(&drained);
        recorded(balancer, &flows);
        settle(balancer, &drained);
        for (segment, _) in flows.iter().filter(|&&(_, server)| server == 1) {
            assert_eq!(balancer.follow(TRACKED, &fin(segment)), 1, "{flow}");
            let (now, _) = balancer.sent(TRACKED, segment);
            assert_ne!(now, 1, "{flow}: a SYN");
            assert_eq!(balancer.follow(TRACKED, &ack(segment)), now, "{flow}");
            assert_eq!(balancer.follow(TRACKED, &rst(segment)), now, "{flow}");
        }
        assert_eq!(balancer.active(TRACKED, flow)[1], 0, "{flow}");
        balancer.restore();
        balancer.backend.forget();
        settle(balancer, &fixture::wanted(&super::balancer::config()));
    }
}
