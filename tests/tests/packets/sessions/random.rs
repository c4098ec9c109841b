//! Any packets in any order: the program does what the library does, and the library what a map would do.

use std::{cell::RefCell, collections::HashMap};

use lb_ebpf::Verdict;
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::balancer::{
    self, Balancer, LEAST, RESET, SERVERS, STICKY, Service, TURNS, ack, client, fin, neighbour,
    rst, tcp,
};
use crate::{
    backend::{Backend, Host, Kernel},
    frames::{Flow, Segment},
};

/// What a client sends, or happens to a server.
#[derive(Clone, Copy, Debug)]
enum Event {
    Packet {
        flow: Flow,
        service: Service,
        client: u8,
        port: u16,
        kind: Kind,
    },
    Down(usize),
    Drained(usize),
    Restored,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Syn,
    Ack,
    Fin,
    Rst,
}

impl Kind {
    fn of(self, segment: &Segment) -> Segment {
        match self {
            Self::Syn => segment.clone(),
            Self::Ack => ack(segment),
            Self::Fin => fin(segment),
            Self::Rst => rst(segment),
        }
    }
}

/// Few clients with few ports, so that sessions meet again.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let flow = select(tcp().to_vec());
    let service = select(vec![TURNS, LEAST, STICKY, RESET]);
    let kind = prop_oneof![
        4 => Just(Kind::Syn),
        4 => Just(Kind::Ack),
        1 => Just(Kind::Fin),
        1 => Just(Kind::Rst),
    ];
    let packet = (flow, service, 1..3_u8, 40_000..40_004_u16, kind);
    let event = prop_oneof![
        30 => packet.prop_map(|(flow, service, client, port, kind)| Event::Packet {
            flow,
            service,
            client,
            port,
            kind,
        }),
        1 => (0..SERVERS.len()).prop_map(Event::Down),
        1 => (0..SERVERS.len()).prop_map(Event::Drained),
        1 => Just(Event::Restored),
    ];
    vec(event, 1..60)
}

fn try_on_events(cases: u32, mut property: impl FnMut(&[Event]) -> Result<(), TestCaseError>) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let property = RefCell::new(&mut property);
    TestRunner::new(config)
        .run(&events(), |events| property.borrow_mut()(&events))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Lets an event happen: what becomes of it, if it is a packet.
fn happen(balancer: &mut Balancer<'_, impl Backend>, event: Event) -> Option<(Verdict, Vec<u8>)> {
    match event {
        Event::Packet {
            flow,
            service,
            client: number,
            port,
            kind,
        } => {
            let segment = neighbour(&client(flow, service, port), number);
            let seen = balancer.run(&kind.of(&segment).frame());
            return Some((seen.verdict, seen.output));
        }
        Event::Down(server) => balancer.take_down(server),
        Event::Drained(server) => balancer.drain(server),
        Event::Restored => balancer.restore(),
    }
    None
}

fn all_active(balancer: &Balancer<'_, impl Backend>) -> Vec<[u64; 3]> {
    let services = [TURNS, LEAST, STICKY, RESET];
    let active = |flow| services.map(|service| balancer.active(service, flow));
    tcp().into_iter().flat_map(active).collect()
}

#[test]
fn the_program_keeps_sessions_as_the_library_does() {
    let config = balancer::config();
    Kernel::run_with(&config, |kernel| {
        try_on_events(20, |events| {
            let mut host = Host::of(&config).without_shortcut();
            let mut library = Balancer::new(&mut host, &config);
            let mut program = Balancer::new(kernel, &config);
            program.restore();
            for (number, &event) in events.iter().enumerate() {
                let expected = happen(&mut library, event);
                let seen = happen(&mut program, event);
                prop_assert_eq!(seen, expected, "{}: {:?}", number, event);
            }
            prop_assert_eq!(all_active(&program), all_active(&library));
            Ok(())
        });
    });
}

#[test]
fn the_shortcut_keeps_sessions_as_the_whole_path_does() {
    let config = balancer::config();
    try_on_events(100, |events| {
        let mut hosts = [Host::of(&config), Host::of(&config).without_shortcut()];
        let mut balancers = hosts.each_mut().map(|host| Balancer::new(host, &config));
        for (number, &event) in events.iter().enumerate() {
            let [shortcut, whole_path] = balancers.each_mut().map(|it| happen(it, event));
            prop_assert_eq!(shortcut, whole_path, "{}: {:?}", number, event);
        }
        let [shortcut, whole_path] = balancers.each_ref().map(|it| all_active(it));
        prop_assert_eq!(shortcut, whole_path);
        Ok(())
    });
}

/// What a session is, if it is simple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    server: usize,
    closing: bool,
}

/// Without changes of servers a packet follows its session, if it has one.
#[test]
fn sessions_are_kept_as_in_a_map() {
    let config = balancer::config();
    let mut host = Host::of(&config);
    try_on_events(300, |events| {
        let mut balancer = Balancer::new(&mut host, &config);
        let mut sessions: HashMap<_, Session> = HashMap::new();
        for &event in events {
            let Event::Packet {
                flow,
                service,
                client: number,
                port,
                kind,
            } = event
            else {
                continue;
            };
            let segment = neighbour(&client(flow, service, port), number);
            let seen = balancer.run(&kind.of(&segment).frame());
            let key = (flow.family as usize, service.name, number, port);
            let session = sessions.get(&key).copied();
            let session = session.filter(|session| !(session.closing && matches!(kind, Kind::Syn)));
            if session.is_none() && service == RESET && !matches!(kind, Kind::Syn) {
                match kind {
                    Kind::Rst => prop_assert!(matches!(seen.verdict, Verdict::Drop(_))),
                    _ => prop_assert_eq!(seen.verdict, Verdict::Transmit),
                }
                prop_assert!(
                    seen.counted
                        .keys()
                        .any(|name| name.contains("unknown_session"))
                );
                continue;
            }
            let (server, began) = balancer.server(service, flow, &seen);
            let begins = session.is_none() && !matches!(kind, Kind::Rst);
            prop_assert_eq!(began == 1, begins, "{:?} of {:?}", event, session);
            if let Some(session) = session {
                prop_assert_eq!(server, session.server, "{:?} of {:?}", event, session);
            }
            match kind {
                Kind::Rst => drop(sessions.remove(&key)),
                _ => {
                    let closing = session.is_some_and(|session| session.closing);
                    let closing = closing || matches!(kind, Kind::Fin);
                    sessions.insert(key, Session { server, closing });
                }
            }
        }
        for flow in tcp() {
            for service in [TURNS, LEAST, STICKY, RESET] {
                let of_service = |server| {
                    sessions
                        .iter()
                        .filter(|((family, name, ..), session)| {
                            (*family, *name) == (flow.family as usize, service.name)
                                && session.server == server
                                && !session.closing
                        })
                        .count() as u64
                };
                prop_assert_eq!(balancer.active(service, flow), [0, 1, 2].map(of_service));
            }
        }
        Ok(())
    });
}
