//! Wanted states: such as a test spells out, and any that a configuration can ask for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use crate::{
    config::{Forward, OnDown, OnUnknown, Ports, Predictor, Protocol, Session, SessionMode},
    control::desired::{Desired, Link, Member, State, VirtualServer},
};

/// Most virtual servers that [`any_desired`] makes.
pub const VIRTUAL_SERVERS: u8 = 5;
/// Most real servers that [`any_desired`] makes.
pub const REAL_SERVERS: u8 = 6;

/// A way to a real server whose MAC address ends in `mac`.
pub fn link(mac: u8, forward: Forward) -> Link {
    Link {
        ifindex: 2,
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 1, mac],
        mtu: 1500,
        outer_source: match forward {
            Forward::L2dsr => None,
            Forward::L3dsr => Some("10.9.0.1/32".parse().unwrap()),
        },
    }
}

/// The real server `s0`, `s1` and so on, of weight 1.
pub fn member(n: u8, link: Link) -> (String, Member) {
    let member = Member {
        address: Ipv4Addr::new(10, 9, 0, n).into(),
        weight: 1,
        share: 1,
        drain: false,
        link: Ok(link),
    };
    (format!("s{n}"), member)
}

/// Real servers, each with a MAC address of its own.
pub fn members(servers: impl IntoIterator<Item = u8>) -> Vec<(String, Member)> {
    let servers = servers.into_iter();
    servers
        .map(|n| member(n, link(n, Forward::L2dsr)))
        .collect()
}

/// Two VIPs of IPv4, one of IPv6, and more.
pub fn vip(n: u8) -> IpAddr {
    match n {
        2 => "2001:db8::1".parse().unwrap(),
        _ => Ipv4Addr::new(10, 9, 1, n).into(),
    }
}

/// The ports that consist of this one.
pub fn port(port: u16) -> Ports {
    Ports::List(BTreeSet::from([port]))
}

/// A virtual server for TCP.
pub fn virtual_server(
    vip: IpAddr,
    ports: Ports,
    members: impl IntoIterator<Item = (String, Member)>,
) -> VirtualServer {
    VirtualServer {
        vip,
        protocol: Protocol::Tcp,
        ports,
        forward: Forward::L2dsr,
        predictor: Predictor::Hash,
        session: Session {
            mode: SessionMode::Stateless,
            idle_timeout: Duration::from_secs(60),
            on_unknown: OnUnknown::Forward,
            on_down: OnDown::Move,
            settle: Duration::from_secs(30),
        },
        sticky: None,
        slow_start: None,
        minimum_up: 1,
        members: members.into_iter().collect(),
        has_sessions: true,
        sorry: None,
    }
}

/// The same virtual server with a sorry server, unless that is bound.
pub fn with_sorry(wanted: VirtualServer, (name, sorry): (String, Member)) -> VirtualServer {
    let mut wanted = wanted;
    if !wanted.members.contains_key(&name) {
        let drain = wanted.state() == State::Up;
        wanted.sorry = Some(name.clone());
        wanted.members.insert(name, Member { drain, ..sorry });
    }
    wanted
}

/// These virtual servers and no others.
pub fn desired<const N: usize>(virtual_servers: [(&str, VirtualServer); N]) -> Desired {
    let virtual_servers = virtual_servers.into_iter();
    Desired {
        virtual_servers: virtual_servers
            .map(|(name, wanted)| (name.to_owned(), Arc::new(wanted)))
            .collect(),
    }
}

/// Any state that a configuration and a network can ask for.
pub fn any_desired() -> impl Strategy<Value = Desired> {
    // Which of two addresses, and the MAC address if it is known.
    let real_server = (0..2_u8, option::weighted(0.8, 0..3_u8));
    let real_servers = vec(real_server, usize::from(REAL_SERVERS));
    let ports = prop_oneof![
        subsequence(vec![80, 443, 8050], 1..=3)
            .prop_map(|ports| Ports::List(ports.into_iter().collect())),
        select(vec![8000..=8100, 8050..=9000, 1..=2]).prop_map(Ports::Range),
        Just(Ports::Any),
    ];
    let weight_and_drain = (1..=4_u16, prop::bool::weighted(0.2));
    let bindings = vec(
        option::weighted(0.6, weight_and_drain),
        usize::from(REAL_SERVERS),
    );
    let virtual_server = (
        (0..3_u8).prop_map(vip),
        select(vec![Protocol::Tcp, Protocol::Udp]),
        ports,
        select(vec![Forward::L2dsr, Forward::L3dsr]),
        1..=2_u32,
        select(vec![
            Predictor::Hash,
            Predictor::SourceHash,
            Predictor::RoundRobin,
            Predictor::LeastConnection,
        ]),
        bindings,
        option::weighted(0.4, 0..REAL_SERVERS),
    );
    let virtual_servers = vec(
        option::weighted(0.7, virtual_server),
        usize::from(VIRTUAL_SERVERS),
    );
    (real_servers, virtual_servers).prop_map(|(real_servers, virtual_servers)| {
        let mut desired = Desired::default();
        for (n, virtual_server) in virtual_servers.into_iter().enumerate() {
            let Some((vip, protocol, ports, forward, minimum_up, predictor, bindings, sorry)) =
                virtual_server
            else {
                continue;
            };
            let member = |n: u8, weight, drain| {
                let (address, mac) = real_servers[usize::from(n)];
                let member = Member {
                    address: Ipv4Addr::new(10, 9, address, n).into(),
                    weight,
                    share: weight,
                    drain,
                    link: mac
                        .map(|mac| link(mac, forward))
                        .ok_or("no answer".to_owned()),
                };
                (format!("s{n}"), member)
            };
            let bound = (0..).zip(bindings);
            let members = bound.filter_map(|(n, binding)| {
                let (weight, drain) = binding?;
                Some(member(n, weight, drain))
            });
            let mut wanted = VirtualServer {
                protocol,
                forward,
                minimum_up,
                predictor,
                ..self::virtual_server(vip, ports, members)
            };
            if let Some(n) = sorry {
                wanted = with_sorry(wanted, member(n, 1, false));
            }
            let mut others = desired.virtual_servers.values();
            if !others.any(|other| clash(other, &wanted)) {
                desired
                    .virtual_servers
                    .insert(format!("v{n}"), Arc::new(wanted));
            }
        }
        desired
    })
}

/// Whether two virtual servers claim the same packets.
/// The next state, in which virtual servers of the one before stay as they are: those whose bits are set.
pub fn keeping(before: &Desired, mut next: Desired, bits: u8) -> Desired {
    for (n, (name, kept)) in before.virtual_servers.iter().enumerate() {
        let mut others = next.virtual_servers.iter();
        if bits & 1 << n != 0 && !others.any(|(other, it)| other != name && clash(it, kept)) {
            next.virtual_servers.insert(name.clone(), Arc::clone(kept));
        }
    }
    next
}

fn clash(a: &VirtualServer, b: &VirtualServer) -> bool {
    let ports = match (&a.ports, &b.ports) {
        (Ports::Any, Ports::Any) => true,
        (Ports::List(a), Ports::List(b)) => !a.is_disjoint(b),
        (Ports::Range(a), Ports::Range(b)) => a.start() <= b.end() && b.start() <= a.end(),
        _ => false,
    };
    (a.vip, a.protocol) == (b.vip, b.protocol) && ports
}
