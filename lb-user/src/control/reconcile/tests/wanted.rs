//! Wanted states: such as a test spells out, and any that a configuration can ask for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use proptest::{collection::vec, option, prelude::*};

use crate::{
    config::{Forward, Ports, Predictor, Protocol},
    control::desired::{Desired, Link, Member, VirtualServer},
};

/// Most virtual servers that [`any_desired`] makes.
pub const VIRTUAL_SERVERS: u32 = 5;
/// Most real servers that [`any_desired`] makes.
pub const REAL_SERVERS: u32 = 6;

/// A real server's name, address and link.
pub type Server = (&'static str, IpAddr, Result<Link, String>);

pub fn link(mac: u8) -> Link {
    Link {
        ifindex: 2,
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 1, mac],
        mtu: 1500,
        outer_source: None,
    }
}

/// The real server `s0`, `s1` and so on, reached by a MAC address of its own.
pub fn server(n: u8) -> Server {
    let name = ["s0", "s1", "s2", "s3", "s4", "s5"][usize::from(n)];
    (name, Ipv4Addr::new(10, 9, 0, n).into(), Ok(link(n)))
}

pub fn member((name, address, link): Server, weight: u16) -> (String, Member) {
    let member = Member {
        address,
        weight,
        drain: false,
        link,
    };
    (name.to_owned(), member)
}

pub fn vip(n: u8) -> IpAddr {
    match n {
        2 => "2001:db8::1".parse().unwrap(),
        _ => Ipv4Addr::new(10, 9, 1, n).into(),
    }
}

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
        minimum_up: 1,
        members: members.into_iter().collect(),
    }
}

pub fn port(port: u16) -> Ports {
    Ports::List(BTreeSet::from([port]))
}

pub fn desired<const N: usize>(virtual_servers: [(&str, VirtualServer); N]) -> Desired {
    Desired {
        virtual_servers: virtual_servers
            .into_iter()
            .map(|(name, wanted)| (name.to_owned(), wanted))
            .collect(),
    }
}

pub fn clash(a: &VirtualServer, b: &VirtualServer) -> bool {
    let ports = match (&a.ports, &b.ports) {
        (Ports::Any, Ports::Any) => true,
        (Ports::List(a), Ports::List(b)) => !a.is_disjoint(b),
        (Ports::Range(a), Ports::Range(b)) => a.start() <= b.end() && b.start() <= a.end(),
        _ => false,
    };
    (a.vip, a.protocol) == (b.vip, b.protocol) && ports
}

/// Any state that a configuration and a network can ask for.
pub fn any_desired() -> impl Strategy<Value = Desired> {
    let link = prop_oneof![
        4 => (0u8..3).prop_map(|mac| Ok(link(mac))),
        1 => Just(Err("no answer".to_owned())),
    ];
    let server = (0u8..2, link);
    let ports = prop_oneof![
        prop::sample::subsequence(vec![80, 443, 8050], 1..=3)
            .prop_map(|ports| Ports::List(ports.into_iter().collect())),
        Just(Ports::Range(8000..=8100)),
        Just(Ports::Range(8050..=9000)),
        Just(Ports::Range(1..=2)),
        Just(Ports::Any),
    ];
    let weight_and_drain = option::weighted(0.6, (1u16..=4, prop::bool::weighted(0.2)));
    let members = vec(weight_and_drain, REAL_SERVERS as usize);
    let virtual_server = (0u8..3, any::<bool>(), ports, 1u32..=2, members);
    (
        vec(server, REAL_SERVERS as usize),
        vec(
            option::weighted(0.7, virtual_server),
            VIRTUAL_SERVERS as usize,
        ),
    )
        .prop_map(|(servers, virtual_servers)| {
            let mut desired = Desired::default();
            for (n, virtual_server) in virtual_servers.into_iter().enumerate() {
                let Some((vip_number, udp, ports, minimum_up, members)) = virtual_server else {
                    continue;
                };
                let members = members.into_iter().zip(&servers).zip(0..).filter_map(
                    |((member, (address, link)), n)| {
                        let (weight, drain) = member?;
                        let address = Ipv4Addr::new(10, 9, *address, n).into();
                        let (name, mut member) =
                            self::member((server_name(n), address, link.clone()), weight);
                        member.drain = drain;
                        Some((name, member))
                    },
                );
                let wanted = VirtualServer {
                    protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                    minimum_up,
                    ..self::virtual_server(vip(vip_number), ports, members)
                };
                if !desired
                    .virtual_servers
                    .values()
                    .any(|other| clash(other, &wanted))
                {
                    desired.virtual_servers.insert(format!("v{n}"), wanted);
                }
            }
            desired
        })
}

fn server_name(n: u8) -> &'static str {
    server(n).0
}
