//! Packets on several CPUs at once, and the sweep among them.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_user::{control::sweep::Sweep, daemon::sessions::now};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng},
};

use super::balancer::{self, BRIEF, LEAST, SERVERS, TURNS, ack, client, fin, neighbour, rst, tcp};
use crate::{
    backend::{Kernel, Runner, action},
    fixture::{LAN, sizes},
    frames::Segment,
};

const THREADS: u8 = 4;
const STEPS: u32 = 20_000;

/// What a thread does to its own flows and to those that all threads share, and the number of packets of its own that
/// followed a session.
fn packets(program: &Runner<'_>, thread: u8) -> u32 {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[thread; 32]);
    let mut sessions: HashMap<(usize, &str, u16), usize> = HashMap::new();
    let mut followed = 0;
    for _ in 0..STEPS {
        let draw = random.random::<u64>();
        let flow = tcp()[(draw & 1) as usize];
        let service = [TURNS, LEAST, BRIEF, BRIEF][(draw >> 1 & 3) as usize];
        let port = 40_000 + (draw >> 8 & 3) as u16;
        // Those of clients 1 to THREADS are of one thread, those of 99 of all.
        let shared = draw >> 16 & 3 == 0;
        let number = if shared { 99 } else { thread + 1 };
        let segment = neighbour(&client(flow, service, port), number);
        let key = (flow.family as usize, service.name, port);
        // A session of BRIEF may be swept away at any time.
        let known = sessions
            .get(&key)
            .copied()
            .filter(|_| !shared && service != BRIEF);
        let (packet, ends) = match draw >> 20 & 7 {
            0 => (rst(&segment), true),
            1 => (fin(&segment), false),
            2 | 3 => (segment, false),
            _ => (ack(&segment), false),
        };
        let is_syn = packet.tcp.syn;
        let server = sent(program, &packet);
        if let (Some(known), false) = (known, is_syn) {
            assert_eq!(server, known, "{packet:?}");
            followed += 1;
        }
        if ends {
            sessions.remove(&key);
        } else if !shared {
            sessions.insert(key, server);
        }
    }
    followed
}

fn sent(program: &Runner<'_>, segment: &Segment) -> usize {
    let (action, output) = program.run(&LAN, &segment.frame());
    assert_eq!(action, action::TX, "{segment:?}");
    let server = SERVERS.iter().position(|server| server.mac == output[..6]);
    server.expect("a server")
}

#[test]
fn cpus_never_mix_up_flows_and_never_lose_count() {
    let config = balancer::config();
    Kernel::run_with(&config, |kernel| {
        let done = AtomicBool::new(false);
        let (runner, reconciler) = kernel.parts();
        let tables = reconciler.tables();
        let passes = thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                let mut sweep = Sweep::new(&sizes(&config));
                while !done.load(Ordering::Relaxed) {
                    // Sessions of BRIEF have been idle for too long by then, and others not.
                    sweep.step(tables, now() + 20, 7);
                }
                sweep.passes()
            });
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let runner = &runner;
                    scope.spawn(move || packets(runner, thread))
                })
                .collect();
            let followed: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            done.store(true, Ordering::Relaxed);
            for followed in followed {
                let followed = followed.expect("a thread's packets went where they should");
                assert!(
                    followed > STEPS / 10,
                    "{followed} packets of sessions are no test"
                );
            }
            sweeper.join().expect("a sweep")
        });
        assert!(passes > 10, "{passes} sweeps are no test");

        let mut left: HashMap<(u32, u32), u64> = HashMap::new();
        for table in tables.sessions.sessions() {
            table.visit(0..table.buckets(), &mut |slot| {
                let key = (slot.state.virtual_server(), slot.state.binding());
                *left.entry(key).or_default() += u64::from(slot.state.is_active());
            });
        }
        for flow in tcp() {
            for service in [TURNS, LEAST, BRIEF] {
                let name = format!("{}-{}-{}", service.name, flow.protocol, flow.family);
                let id = reconciler.virtual_server_id(&name).expect("configured");
                let first = tables.virtual_servers.get(id).first_binding;
                for offset in 0..SERVERS.len() as u32 {
                    let counters = tables.bindings.get(first + offset).counters_index();
                    let active = tables.sessions.active(counters);
                    let left = left.get(&(id, offset)).copied().unwrap_or_default();
                    assert_eq!(active, left, "{name}, binding {offset}");
                }
            }
        }
    });
}
