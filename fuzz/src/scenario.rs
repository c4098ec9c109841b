//! A balancer, and what happens to it.
//!
//! All choices are read from the bytes front to back, so that a change of some bytes changes some choices alone.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arbitrary::{Arbitrary, Result, Unstructured};
use bytemuck::{Pod, Zeroable};
use ipnet::IpNet;
use lb_common::{
    Control, Interface,
    session::{self, TICK},
};
use lb_user::{
    config::{
        Forward, Limits, OnDown, OnUnknown, Ports, Predictor, Protocol, Session, SessionMode,
        Sticky,
    },
    control::{
        Desired, Reconciler,
        desired::{Link, Member, VirtualServer},
    },
    dataplane::{Sizes, Tables},
};

use crate::{
    memory::{Balancer, Buffer, NoKernel, Seen},
    network::{FAR, LAN, Port, SERVERS, VIPS},
    packet::Segment,
};

/// A balancer, and what happens to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it balances; no two of the same VIP, protocol and ports.
    pub services: Vec<Service>,
    /// In this order.
    pub events: Vec<Event>,
}

/// A virtual server, as numbers to choose by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Service {
    vip: u8,
    ports: u8,
    kind: u8,
    predictor: u8,
    session: u8,
    sticky: u8,
    servers: u8,
    weights: u8,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame comes in by an interface.
    Frame(&'static Port, Vec<u8>),
    /// A real server is in another state from now on, by its index in [`SERVERS`].
    Server(usize, ServerState),
    /// So many seconds or a little more go by, for packets and for the daemon.
    Wait(u32),
}

/// The state of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerState {
    /// It takes new sessions.
    #[default]
    Up,
    /// It keeps its sessions.
    Draining,
    /// It takes nothing.
    Down,
}

impl Scenario {
    const MOST_SERVICES: u8 = 8;
    const MOST_EVENTS: usize = 64;

    /// The bytes that make these frames, each of which comes in by an interface, for these services.
    pub fn seed(services: &[Service], frames: &[(&Port, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![services.len().try_into().expect("a few")];
        bytes.extend(bytemuck::cast_slice(services));
        for (ingress, frame) in frames {
            bytes.push(u8::from(*ingress == &FAR));
            let length = u16::try_from(frame.len()).expect("a frame");
            bytes.extend(length.to_le_bytes());
            bytes.extend(*frame);
        }
        bytes
    }
}

impl<'a> Arbitrary<'a> for Scenario {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let number = u8::arbitrary(bytes)? % (Self::MOST_SERVICES + 1);
        let mut services: Vec<Service> = Vec::new();
        for _ in 0..number {
            let service: Service = bytemuck::cast(<[u8; 8]>::arbitrary(bytes)?);
            if services.iter().all(|other| !other.collides(&service)) {
                services.push(service);
            }
        }
        let mut events = Vec::new();
        while !bytes.is_empty() && events.len() < Self::MOST_EVENTS {
            let event = event(bytes, &services, &events)?;
            events.push(event);
        }
        Ok(Self { services, events })
    }
}

fn event(bytes: &mut Unstructured<'_>, services: &[Service], before: &[Event]) -> Result<Event> {
    const SECONDS: [u32; 4] = [1, 8, 61, 301];
    const STATES: [ServerState; 3] = [ServerState::Up, ServerState::Draining, ServerState::Down];

    let kind = u8::arbitrary(bytes)?;
    let ingress = if kind & 1 == 0 { &LAN } else { &FAR };
    Ok(match kind >> 1 {
        0..2 => {
            let length = u16::arbitrary(bytes)?.into();
            let length = bytes.len().min(length);
            Event::Frame(ingress, bytes.bytes(length)?.to_vec())
        }
        2..80 => {
            let segment: Segment = bytemuck::cast(<[u8; 6]>::arbitrary(bytes)?);
            Event::Frame(ingress, segment.frame(services))
        }
        80..112 => {
            let [which, place, value] = <[u8; 3]>::arbitrary(bytes)?;
            let frames = before.iter().rev().filter_map(|event| match event {
                Event::Frame(ingress, frame) => Some((*ingress, frame)),
                _ => None,
            });
            let Some((ingress, frame)) = frames.take(1 + usize::from(which % 8)).last() else {
                return Ok(Event::Wait(0));
            };
            let mut frame = frame.clone();
            if let Some(byte) = frame.get_mut(usize::from(place)) {
                *byte = value;
            }
            Event::Frame(ingress, frame)
        }
        112..120 => {
            let [server, state] = <[u8; 2]>::arbitrary(bytes)?;
            Event::Server(usize::from(server) % SERVERS.len(), pick(STATES, state))
        }
        _ => Event::Wait(pick(SECONDS, u8::arbitrary(bytes)?)),
    })
}

/// One of these, by a number.
pub(crate) fn pick<T: Copy, const N: usize>(choices: [T; N], number: u8) -> T {
    choices[usize::from(number) % N]
}

impl Service {
    /// At the first VIP, port 80 or any port; for TCP and UDP, of IPv4 and IPv6.
    pub fn at_first_vip(kind: u8, session: u8) -> Vec<Self> {
        let service = |choice: u8| Self {
            vip: choice & 1,
            ports: if choice & 2 == 0 { 0 } else { 5 },
            kind: kind << 1 | choice >> 2,
            predictor: 0,
            session,
            sticky: 0,
            servers: 0xff,
            weights: 0,
        };
        (0..8).map(service).collect()
    }

    fn collides(&self, other: &Self) -> bool {
        let takes = |service: &Self| (service.vip(), service.protocol(), service.ports());
        takes(self) == takes(other)
    }

    /// The VIP.
    pub fn vip(&self) -> IpAddr {
        let [family, number] = [self.vip & 1, self.vip >> 1 & 1].map(usize::from);
        VIPS[number][family].parse().expect("an address")
    }

    /// The protocol.
    pub const fn protocol(&self) -> Protocol {
        match self.kind & 1 {
            0 => Protocol::Tcp,
            _ => Protocol::Udp,
        }
    }

    const fn forward(&self) -> Forward {
        match self.kind & 2 {
            0 => Forward::L2dsr,
            _ => Forward::L3dsr,
        }
    }

    /// Ports, of which no two overlap but as a file may have them.
    pub fn ports(&self) -> Ports {
        match self.ports % 6 {
            0 => Ports::List([80].into()),
            1 => Ports::List([81].into()),
            2 => Ports::List([443, 8443].into()),
            3 => Ports::Range(8000..=8100),
            4 => Ports::List([8050].into()),
            _ => Ports::Any,
        }
    }

    fn wanted(&self, states: &[ServerState]) -> VirtualServer {
        const MINUTE: Duration = Duration::from_mins(1);
        const MODES: [SessionMode; 4] = [
            SessionMode::Stateful,
            SessionMode::Stateless,
            SessionMode::OnChange,
            SessionMode::Stateful,
        ];
        const ON_UNKNOWN: [OnUnknown; 4] = [
            OnUnknown::Forward,
            OnUnknown::Reset,
            OnUnknown::Drop,
            OnUnknown::Forward,
        ];
        const PREFIXES: [(u8, u8); 3] = [(32, 128), (24, 64), (1, 1)];

        let mode = pick(MODES, self.session);
        let predictor = match mode {
            SessionMode::Stateful => pick(
                [
                    Predictor::Hash,
                    Predictor::SourceHash,
                    Predictor::RoundRobin,
                    Predictor::LeastConnection,
                    Predictor::ResponseTime,
                ],
                self.predictor,
            ),
            SessionMode::Stateless | SessionMode::OnChange => {
                pick([Predictor::Hash, Predictor::SourceHash], self.predictor)
            }
        };
        let is_sticky = mode == SessionMode::Stateful && self.sticky & 1 != 0;
        let (prefix_v4, prefix_v6) = pick(PREFIXES, self.sticky >> 1);
        let idle = self.session >> 5 & 1 != 0;
        VirtualServer {
            vip: self.vip(),
            protocol: self.protocol(),
            ports: self.ports(),
            forward: self.forward(),
            predictor,
            session: Session {
                mode,
                idle_timeout: if idle { MINUTE / 12 } else { 5 * MINUTE },
                on_unknown: pick(ON_UNKNOWN, self.session >> 2),
                on_down: [OnDown::Move, OnDown::Reset][usize::from(self.session >> 4 & 1)],
                settle: MINUTE,
            },
            sticky: is_sticky.then_some(Sticky {
                timeout: MINUTE,
                prefix_v4,
                prefix_v6,
            }),
            slow_start: None,
            minimum_up: 1 + u32::from(self.session >> 6 & 1),
            members: self.members(states),
            has_sessions: true,
            sorry: None,
        }
    }

    fn members(&self, states: &[ServerState]) -> BTreeMap<String, Member> {
        let bound = SERVERS
            .iter()
            .zip(states)
            .enumerate()
            .filter(|(number, _)| {
                let number = u32::try_from(*number).expect("few servers");
                self.servers >> number & 1 != 0
            });
        let members = bound.filter_map(|(number, (server, state))| {
            let address: IpAddr = server.address.parse().expect("an address");
            let outer_source = match self.forward() {
                Forward::L2dsr if address.is_ipv4() != self.vip().is_ipv4() => return None,
                Forward::L2dsr => None,
                Forward::L3dsr => Some(self.outer_sources(address)),
            };
            let weight = 1 + u16::from(self.weights >> number & 1);
            let member = Member {
                address,
                weight,
                share: weight,
                drain: *state == ServerState::Draining,
                link: match state {
                    ServerState::Down => Err("down".to_owned()),
                    ServerState::Up | ServerState::Draining => Ok(Link {
                        ifindex: server.port.ifindex,
                        source_mac: server.port.mac,
                        destination_mac: server.mac,
                        mtu: server.mtu,
                        outer_source,
                    }),
                },
            };
            Some((server.address.to_owned(), member))
        });
        members.collect()
    }

    /// Where outer headers to a real server come from: the balancer's address, or a prefix.
    fn outer_sources(&self, server: IpAddr) -> IpNet {
        let spread = self.kind & 4 != 0;
        let sources = match (server.is_ipv4(), spread) {
            (true, false) => "10.9.0.1/32",
            (true, true) => "10.200.0.0/16",
            (false, false) => "2001:db8:9::1/128",
            (false, true) => "2001:db8:200::/96",
        };
        sources.parse().expect("a prefix")
    }
}

/// A balancer to which a scenario happens.
pub struct Stage<'a> {
    services: &'a [Service],
    states: [ServerState; SERVERS.len()],
    /// The daemon's time.
    now: Instant,
    /// The balancer.
    pub balancer: Balancer,
}

impl<'a> Stage<'a> {
    /// The time at which scenarios begin, in nanoseconds: such that nothing that is older was before time began.
    const BEGIN: u64 = 1000 * TICK + Self::STAND;

    /// Where in a tick of sessions time stands still, so that it may go on for a while without another tick.
    const STAND: u64 = TICK / 4;

    /// The balancer before anything has happened.
    pub fn new(services: &'a [Service]) -> Self {
        let sizes = sizes();
        let tables = Tables::anonymous(&sizes).expect("memory");
        for port in [&LAN, &FAR] {
            let place = Interface::place(port.ifindex, 0);
            let entry = Interface {
                ifindex: port.ifindex,
                mac: port.mac,
                ..Interface::default()
            };
            tables.interfaces.set(place, entry);
        }
        // The same in each run, so that the same bytes do the same.
        let secrets = [0x5eed_5eed_5eed_5eed, 0x0dd5_0dd5_0dd5_0dd5];
        let control = tables.control.get(0);
        tables.control.set(0, Control { secrets, ..control });
        tables.set_limits(&Limits::DEFAULT);
        let reconciler = Reconciler::new(tables, &sizes, NoKernel);
        let mut balancer = Balancer::new(reconciler, Buffer::HEADROOM);
        balancer.set_now(Self::BEGIN);
        let mut stage = Self {
            services,
            states: Default::default(),
            now: Instant::now(),
            balancer,
        };
        stage.reconcile();
        stage
    }

    /// Lets something happen: what becomes of it, if it is a frame.
    pub fn happen(&mut self, event: &Event) -> Option<Seen> {
        match *event {
            Event::Frame(ingress, ref frame) => return Some(self.balancer.run(ingress, frame)),
            Event::Server(server, state) => self.states[server] = state,
            Event::Wait(seconds) => {
                let time = Duration::from_secs(seconds.into());
                self.now += time;
                let ticks = u64::from(session::ticks(time));
                self.balancer.set_now(self.balancer.now() + ticks * TICK);
            }
        }
        self.reconcile();
        None
    }

    fn reconcile(&mut self) {
        let services = self.services.iter().enumerate();
        let virtual_servers = services.map(|(number, service)| {
            let wanted = service.wanted(&self.states);
            (format!("service-{number}"), Arc::new(wanted))
        });
        let wanted = Desired {
            virtual_servers: virtual_servers.collect(),
        };
        let reconciler = self.balancer.reconciler_mut();
        let applied = reconciler.apply_at(&wanted, self.now);
        applied.expect("the tables have room");
    }
}

/// How large the tables of scenarios are: so small that sessions meet.
pub fn sizes() -> Sizes {
    let few = Limits {
        virtual_servers: 16,
        real_servers: 16,
        ..Limits::DEFAULT
    };
    Sizes {
        // Old and new tables of each virtual server, by hash and in turns, of the least size.
        table_blocks: 1 + 4 * 8 * 128,
        bindings: 128,
        fragments: 1024,
        sessions_v4: 8,
        sessions_v6: 8,
        sticky: 8,
        ..Sizes::new(&few)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_was_meant() {
        let services = Service::at_first_vip(1, 0);
        let frames: [(&Port, &[u8]); 2] = [(&LAN, &[1; 300]), (&FAR, &[2; 60])];
        let bytes = Scenario::seed(&services, &frames);
        let scenario = Scenario::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
        let read: &[u8] = bytemuck::cast_slice(&scenario.services);
        assert_eq!(read, bytemuck::cast_slice::<_, u8>(&services));
        let read = scenario.events.iter().map(|event| match event {
            Event::Frame(ingress, frame) => (*ingress, &frame[..]),
            event => panic!("{event:?}"),
        });
        assert_eq!(read.collect::<Vec<_>>(), frames);
    }
}
