//! A balancer with sessions, and what becomes of packets there.

use std::{net::IpAddr, sync::Arc, time::Duration};

use lb_common::{Counters, DropReason, SessionEvent};
use lb_ebpf::Verdict;
use lb_user::{
    config::Config,
    control::{Desired, desired::Member},
};

use crate::{
    backend::{Backend, Observed},
    case::{dropped, happened},
    fixture::{self, LAN, NARROW, NEAR, Server, WEB, WEB_2},
    frames::{Family, Flow, Protocol, Segment},
};

/// The servers of every virtual server here, in the order of their names.
pub const SERVERS: [&Server; 3] = [&NARROW, &WEB, &WEB_2];

/// A virtual server for TCP and one for UDP, over each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: &'static str,
    pub port: u16,
    settings: &'static str,
}

macro_rules! services {
    ($($constant:ident $name:literal $port:literal $settings:literal)*) => {
        $(pub const $constant: Service = Service { name: $name, port: $port, settings: $settings };)*
        const SERVICES: &[Service] = &[$($constant),*];
    };
}

services! {
    HASH "hash" 100 "predictor: hash"
    TURNS "turns" 101 "predictor: round_robin"
    LEAST "least" 102 "predictor: least_connection, slow_start: none"
    SOURCE "source" 103 "predictor: source_hash"
    STICKY "sticky" 104 "predictor: round_robin, sticky: {timeout: 10m}"
    NETWORKS "networks" 106 "predictor: round_robin, sticky: {timeout: 10m, prefix_v4: 24, prefix_v6: 64}"
    RESET "reset" 107 "predictor: round_robin, session: {on_unknown: reset}"
    DROP "drop" 108 "predictor: round_robin, session: {on_unknown: drop}"
    DOWN_RESET "down-reset" 109 "predictor: round_robin, session: {on_down: reset}"
    BRIEF "brief" 110 "predictor: round_robin, session: {idle_timeout: 10s}"
    WEIGHTS "weights" 111 "predictor: round_robin"
    TRACKED "tracked" 113 "predictor: hash, session: {mode: on_change}"
    LEAST_WEIGHTS "least-weights" 112 "predictor: least_connection, slow_start: none"
}

/// The second port of [`STICKY`].
pub const STICKY_TOO: u16 = 105;

pub fn config() -> Config {
    config_of("virtual_servers: 64, real_servers: 32")
}

/// With these limits.
pub fn config_of(limits: &str) -> Config {
    let mut yaml = String::from("interfaces: [{name: lan}]\n");
    yaml += &format!("limits: {{{limits}}}\n");
    yaml += &fixture::real_servers();
    yaml += "virtual_servers:\n";
    for flow in Flow::all() {
        for service in SERVICES {
            let names = SERVERS.map(|server| server.name(flow.family));
            let bind = match *service {
                WEIGHTS | LEAST_WEIGHTS => names
                    .iter()
                    .zip(1..)
                    .map(|(name, weight)| format!("{{server: {name}, weight: {weight}}}"))
                    .collect::<Vec<_>>()
                    .join(", "),
                _ => names.join(", "),
            };
            let port = match *service {
                STICKY => format!("[{}, {STICKY_TOO}]", STICKY.port),
                _ => service.port.to_string(),
            };
            let Service { name, settings, .. } = service;
            let (vip, protocol) = (NEAR.vip(flow.family), flow.protocol);
            let settings = match protocol {
                Protocol::Tcp => (*settings).to_owned(),
                Protocol::Udp => settings.split(", session: {on").next().unwrap().to_owned(),
            };
            yaml += &format!(
                "  - {{name: {name}-{protocol}-{}, vip: \"{vip}\", protocol: {protocol}, port: {port}, {settings}, bind: [{bind}]}}\n",
                flow.family
            );
        }
    }
    Config::parse("sessions.yaml", &yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// TCP over each family.
pub fn tcp() -> [Flow; 2] {
    Family::ALL.map(|family| Flow {
        family,
        protocol: Protocol::Tcp,
    })
}

/// UDP over each family.
pub fn udp() -> [Flow; 2] {
    Family::ALL.map(|family| Flow {
        family,
        protocol: Protocol::Udp,
    })
}

/// A client's packets to a service: a SYN, if it is of TCP.
pub fn client(flow: Flow, service: Service, port: u16) -> Segment {
    Segment::to(flow, &NEAR, service.port).with(|it| it.source_port = port)
}

/// The same flow's packet with an ACK alone.
pub fn ack(segment: &Segment) -> Segment {
    segment.with(|it| {
        it.tcp.syn = false;
        it.tcp.ack = true;
        it.tcp.acknowledgment_number = 0x0a0b_0c0d;
    })
}

/// The same flow's FIN.
pub fn fin(segment: &Segment) -> Segment {
    ack(segment).with(|it| it.tcp.fin = true)
}

/// The same flow's RST.
pub fn rst(segment: &Segment) -> Segment {
    segment.with(|it| {
        it.tcp.syn = false;
        it.tcp.rst = true;
    })
}

/// A balancer on some backend.
pub struct Balancer<'a, B> {
    pub backend: &'a mut B,
    config: &'a Config,
}

impl<'a, B: Backend> Balancer<'a, B> {
    pub fn new(backend: &'a mut B, config: &'a Config) -> Self {
        backend.forget();
        Self { backend, config }
    }

    pub fn run(&mut self, frame: &[u8]) -> Observed {
        self.backend.run(&LAN, frame)
    }

    /// The server that a segment goes to, as an index of [`SERVERS`]; and the sessions that began with it.
    pub fn sent(&mut self, service: Service, segment: &Segment) -> (usize, u64) {
        let seen = self.run(&segment.frame());
        self.server(service, segment.flow, &seen)
    }

    /// As [`Self::sent`], of what was seen.
    pub fn server(&self, service: Service, flow: Flow, seen: &Observed) -> (usize, u64) {
        assert_eq!(seen.verdict, Verdict::Transmit, "{:?}", seen.counted);
        let mac: [u8; 6] = seen.output[..6].try_into().unwrap();
        let server = SERVERS.iter().position(|server| server.mac == mac);
        let server = server.unwrap_or_else(|| panic!("to {mac:02x?}"));
        let counted = self.counted(service, flow, server, seen);
        assert_eq!(counted.packets, 1, "{:?}", seen.counted);
        let all = seen
            .counted
            .iter()
            .filter(|(name, _)| name.contains(" -> "));
        let bytes: u64 = all.map(|(_, counters)| counters.bytes).sum();
        assert_eq!(bytes, counted.bytes, "{:?}", seen.counted);
        (server, counted.sessions)
    }

    /// What was counted for a server.
    pub fn counted(
        &self,
        service: Service,
        flow: Flow,
        server: usize,
        seen: &Observed,
    ) -> Counters {
        let server = SERVERS[server].name(flow.family);
        let binding = format!("{} -> {server}", self.name(service, flow));
        seen.counted.get(&binding).copied().unwrap_or_default()
    }

    /// The server that a new flow's first packet goes to.
    pub fn begin(&mut self, service: Service, segment: &Segment) -> usize {
        let (server, began) = self.sent(service, segment);
        assert_eq!(began, 1, "a session should begin");
        server
    }

    /// The server that a packet of a session goes to.
    pub fn follow(&mut self, service: Service, segment: &Segment) -> usize {
        let (server, began) = self.sent(service, segment);
        assert_eq!(began, 0, "no session should begin");
        server
    }

    fn name(&self, service: Service, flow: Flow) -> String {
        format!("{}-{}-{}", service.name, flow.protocol, flow.family)
    }

    /// Active sessions of each server.
    pub fn active(&self, service: Service, flow: Flow) -> [u64; 3] {
        let name = self.name(service, flow);
        SERVERS.map(|server| self.backend.active(&name, &server.name(flow.family)))
    }

    /// Changes what is wanted; `change` gets the states of a server in all virtual servers.
    pub fn with_server(&mut self, server: usize, change: impl Fn(&mut Member)) {
        let wanted = self.wanted_with(server, change);
        self.backend.reconcile(&wanted);
    }

    /// What is wanted but for a server's states in all virtual servers, which `change` gets.
    pub fn wanted_with(&self, server: usize, change: impl Fn(&mut Member)) -> Desired {
        let mut wanted: Desired = fixture::wanted(self.config);
        for virtual_server in wanted.virtual_servers.values_mut() {
            for (name, member) in &mut Arc::make_mut(virtual_server).members {
                if Family::ALL
                    .iter()
                    .any(|&family| *name == SERVERS[server].name(family))
                {
                    change(member);
                }
            }
        }
        wanted
    }

    /// A server's machine is gone.
    pub fn take_down(&mut self, server: usize) {
        self.with_server(server, |member| member.link = Err("down".to_owned()));
    }

    /// A server gets no new sessions.
    pub fn drain(&mut self, server: usize) {
        self.with_server(server, |member| member.drain = true);
    }

    /// All servers are as they were at first.
    pub fn restore(&mut self) {
        self.backend.reconcile(&fixture::wanted(self.config));
    }

    pub fn wait(&mut self, seconds: u64) {
        self.backend.wait(Duration::from_secs(seconds));
    }
}

/// What a dropped packet counts.
pub fn counted_drop(reason: DropReason) -> (String, Counters) {
    dropped(reason, 1)
}

/// What an event of the session table counts.
pub fn counted_event(event: SessionEvent) -> (String, Counters) {
    happened(event, 1)
}

/// Another client.
pub fn neighbour(segment: &Segment, number: u8) -> Segment {
    segment.with(|it| {
        it.source = match it.source {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                IpAddr::from([a, b, c, number])
            }
            IpAddr::V6(address) => {
                let mut octets = address.octets();
                octets[15] = number;
                IpAddr::from(octets)
            }
        };
    })
}
