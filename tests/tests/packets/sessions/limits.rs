//! What time does to sessions, and what happens when there are too many. The kernel's clock can't be set, so these
//! run on the host.

use lb_common::SessionEvent::{Evicted, Unrecorded};
use lb_ebpf::Verdict;

use super::balancer::{
    self, BRIEF, Balancer, HASH, STICKY, Service, TRACKED, TURNS, ack, client, counted_event, fin,
    tcp, udp,
};
use crate::{
    backend::{Backend, Host},
    frames::{Flow, STRANGER_MAC, Segment},
};

fn on_host(test: impl Fn(&mut Balancer<'_, Host>)) {
    let config = balancer::config();
    test(&mut Balancer::new(&mut Host::of(&config), &config));
}

/// A session that was idle for so long is gone, and one that was a bit less is not.
#[track_caller]
fn assert_lives_for(
    balancer: &mut Balancer<'_, Host>,
    service: Service,
    before: &[Segment],
    seconds: u64,
) {
    let first = &before[0];
    let server = balancer.begin(service, first);
    for packet in &before[1..] {
        assert_eq!(balancer.follow(service, packet), server);
    }
    let next = match first.flow.protocol.is_tcp() {
        true => ack(first),
        false => first.clone(),
    };
    let last = before.last().unwrap();
    for _ in 0..2 {
        balancer.wait(seconds);
        assert_eq!(balancer.follow(service, last), server, "after {seconds} s");
    }
    balancer.wait(seconds + 4);
    let (_, began) = balancer.sent(service, &next);
    assert_eq!(began, 1, "{} s are too long", seconds + 4);
}

#[test]
fn a_session_is_gone_when_it_has_been_idle_for_too_long() {
    on_host(|balancer| {
        for flow in tcp() {
            let segment = client(flow, BRIEF, 40_000);
            assert_lives_for(balancer, BRIEF, &[segment.clone(), ack(&segment)], 10);
            let segment = client(flow, TURNS, 40_000);
            assert_lives_for(balancer, TURNS, &[segment.clone(), ack(&segment)], 30 * 60);
        }
        for flow in udp() {
            let segment = client(flow, BRIEF, 40_000);
            assert_lives_for(balancer, BRIEF, &[segment.clone(), segment], 10);
            let segment = client(flow, TURNS, 40_000);
            assert_lives_for(balancer, TURNS, &[segment.clone(), segment], 5 * 60);
        }
    });
}

#[test]
fn frames_for_others_keep_no_session_alive() {
    on_host(|balancer| {
        for flow in Flow::all() {
            let segment = client(flow, BRIEF, 40_000);
            let server = balancer.begin(BRIEF, &segment);
            let next = match flow.protocol.is_tcp() {
                true => ack(&segment),
                false => segment.clone(),
            };
            assert_eq!(balancer.follow(BRIEF, &next), server, "{flow}");
            for _ in 0..2 {
                balancer.wait(7);
                let flooded = next.with(|it| it.destination_mac = STRANGER_MAC).frame();
                let seen = balancer.run(&flooded);
                assert_eq!((seen.verdict, seen.output), (Verdict::Pass, flooded));
            }
            let (_, began) = balancer.sent(BRIEF, &next);
            assert_eq!(began, 1, "{flow}");
        }
    });
}

#[test]
fn a_session_that_has_not_begun_or_is_closed_lives_for_a_minute() {
    on_host(|balancer| {
        for flow in tcp() {
            let segment = client(flow, TURNS, 40_000);
            assert_lives_for(balancer, TURNS, std::slice::from_ref(&segment), 60);
            let segment = client(flow, TURNS, 40_001);
            let packets = [segment.clone(), ack(&segment), fin(&segment)];
            assert_lives_for(balancer, TURNS, &packets, 60);
            // Nor longer than any other session.
            let segment = client(flow, BRIEF, 40_000);
            assert_lives_for(balancer, BRIEF, std::slice::from_ref(&segment), 10);
        }
    });
}

#[test]
fn a_session_that_is_gone_is_not_counted_twice_when_it_begins_anew() {
    on_host(|balancer| {
        for flow in Flow::all() {
            let segment = client(flow, BRIEF, 40_000);
            for _ in 0..5 {
                balancer.begin(BRIEF, &segment);
                balancer.wait(20);
            }
            let active = balancer.active(BRIEF, flow);
            assert_eq!(active.iter().sum::<u64>(), 1, "{flow}: {active:?}");
        }
    });
}

#[test]
fn a_client_that_was_not_seen_for_too_long_is_forgotten() {
    on_host(|balancer| {
        for flow in Flow::all() {
            let of_client = |port| client(flow, STICKY, port);
            let server = balancer.begin(STICKY, &of_client(40_000));
            let mut port = 40_000;
            for _ in 0..3 {
                balancer.wait(10 * 60);
                port += 1;
                assert_eq!(balancer.begin(STICKY, &of_client(port)), server, "{flow}");
            }
            balancer.wait(10 * 60 + 4);
            let next = balancer.begin(STICKY, &of_client(50_000));
            assert_ne!(next, server, "{flow}: a round robin");
        }
    });
}

#[test]
fn packets_of_a_session_keep_its_client_known() {
    on_host(|balancer| {
        for flow in tcp() {
            let segment = client(flow, STICKY, 40_000);
            let server = balancer.begin(STICKY, &segment);
            assert_eq!(balancer.follow(STICKY, &ack(&segment)), server, "{flow}");
            for _ in 0..4 {
                balancer.wait(8 * 60);
                assert_eq!(balancer.follow(STICKY, &ack(&segment)), server, "{flow}");
            }
            assert_eq!(
                balancer.begin(STICKY, &client(flow, STICKY, 41_000)),
                server,
                "{flow}"
            );
        }
    });
}

/// A CPU records so many sessions in a while; what comes beyond goes where the hash decides.
#[test]
fn past_the_limit_new_flows_are_forwarded_by_hash_and_counted() {
    let config = balancer::config_of("virtual_servers: 64, real_servers: 32, cps_per_cpu: 100");
    let mut host = Host::of(&config);
    let mut balancer = Balancer::new(&mut host, &config);
    let flow = tcp()[0];
    let old = client(flow, TURNS, 30_000);
    let server = balancer.begin(TURNS, &old);
    let mut unrecorded = 0;
    for port in 40_000..40_100 {
        let segment = client(flow, HASH, port);
        let seen = balancer.run(&segment.frame());
        let (name, counters) = counted_event(Unrecorded);
        let was_recorded = seen.counted.get(&name) != Some(&counters);
        let (by_hash, began) = balancer.server(HASH, flow, &seen);
        assert_eq!(began == 1, was_recorded);
        unrecorded += usize::from(!was_recorded);
        // It may be followed all the same.
        if !was_recorded {
            let seen = balancer.run(&ack(&segment).frame());
            assert_eq!(balancer.server(HASH, flow, &seen), (by_hash, 0));
        }
    }
    assert!((80..95).contains(&unrecorded), "{unrecorded} of 100");
    assert_eq!(
        balancer.follow(TURNS, &ack(&old)),
        server,
        "old sessions stay"
    );
    balancer.wait(1);
    balancer.begin(TURNS, &client(flow, TURNS, 30_001));
}

/// While a virtual server settles the same holds, and who isn't recorded goes where flows were before.
#[test]
fn past_the_limit_flows_of_a_server_that_drains_stay_there_until_it_has_settled() {
    let config = balancer::config_of("virtual_servers: 64, real_servers: 32, cps_per_cpu: 1");
    let mut host = Host::of(&config);
    let mut balancer = Balancer::new(&mut host, &config);
    let flow = tcp()[0];
    let segments = (40_000..40_060).map(|port| client(flow, TRACKED, port));
    let flows: Vec<_> = segments
        .map(|segment| (balancer.follow(TRACKED, &segment), segment))
        .filter(|&(server, _)| server == 1)
        .collect();
    let drained = balancer.wanted_with(1, |member| member.drain = true);
    balancer.backend.reconcile(&drained);
    let (mut began, mut unrecorded) = (0, 0);
    for (_, segment) in &flows {
        let seen = balancer.run(&ack(segment).frame());
        let (server, sessions) = balancer.server(TRACKED, flow, &seen);
        assert_eq!(server, 1);
        began += sessions;
        unrecorded += u64::from(seen.counted.contains_key(&counted_event(Unrecorded).0));
    }
    assert_eq!((began, began + unrecorded), (1, flows.len() as u64));
}

/// The table of the tests has places for 256 sessions of each family.
#[test]
fn those_who_sent_one_packet_make_room_and_established_sessions_stay() {
    on_host(|balancer| {
        for flow in tcp() {
            let established: Vec<_> = (20_000..20_060)
                .map(|port| {
                    let segment = client(flow, TURNS, port);
                    let server = balancer.begin(TURNS, &segment);
                    assert_eq!(balancer.follow(TURNS, &ack(&segment)), server);
                    (segment, server)
                })
                .collect();
            let mut evicted = 0;
            for port in 30_000..34_000 {
                let seen = balancer.run(&client(flow, HASH, port).frame());
                assert_eq!(balancer.server(HASH, flow, &seen).1, 1);
                evicted += seen
                    .counted
                    .get(&counted_event(Evicted).0)
                    .map_or(0, |it| it.packets);
            }
            for (segment, server) in &established {
                assert_eq!(balancer.follow(TURNS, &ack(segment)), *server, "{flow}");
            }
            let active: u64 = balancer.active(HASH, flow).iter().sum();
            assert_eq!(active + evicted, 4000, "{flow}");
            assert!(active > 150, "{flow}: {active} of 196 places in use");
            balancer.backend.forget();
        }
    });
}
