//! Making a lab: namespaces, cables, addresses.

use std::{
    collections::BTreeSet,
    fs, iter,
    net::IpAddr,
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;

use crate::{
    Host, Lab, Namespace, device_features,
    lab::{Leg, Remains},
    namespace::ip_batch,
    pass_program,
    remains::{self, TEST_PREFIX},
};

const BALANCER: u8 = 1;
const FIRST_REAL_SERVER: u8 = 11;
const CLIENT: u8 = 100;
const CLIENT_ROUTER: u8 = 253;
const ROUTER: u8 = 254;

/// Where the balancer is.
const FIRST_SEGMENT: u8 = 1;
const SECOND_SEGMENT: u8 = 2;
const BEHIND_ROUTER: u8 = 3;
const BEHIND_CLIENT_ROUTER: u8 = 4;

/// Every host of a lab starts with these, whatever the machine's own settings are.
const HOST_SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    // Addresses can be used at once.
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    // An interface that was down has its IPv6 addresses again, as it has the others.
    ("ipv6/conf/all/keep_addr_on_down", "1"),
    // Root may ping without a raw socket.
    ("ipv4/ping_group_range", "0 0"),
];

/// A real server never says that it has the VIP.
const REAL_SERVER_SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
];

const ROUTER_SYSCTLS: &[(&str, &str)] =
    &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// What makes a veth behave as a cable: checksums are whole, and tags inside the frame, when XDP sees it.
const CABLE_FEATURES: &[(&str, bool)] = &[
    ("tx-checksum-ip-generic", false),
    ("tx-vlan-hw-insert", false),
    ("tx-vlan-stag-hw-insert", false),
];

/// What a lab is made of.
#[derive(Clone, Debug)]
pub struct Builder {
    name: Option<String>,
    real_servers: u8,
    on_second_segment: u8,
    behind_router: u8,
    client_addresses: u8,
    mtu_towards_client: Option<u16>,
    vips: Vec<IpAddr>,
}

impl Default for Builder {
    fn default() -> Self {
        let vips = ["10.9.1.1", "10.9.1.2", "2001:db8:9:1::1", "2001:db8:9:1::2"];
        Self {
            name: None,
            real_servers: 1,
            on_second_segment: 0,
            behind_router: 0,
            client_addresses: 1,
            mtu_towards_client: None,
            vips: vips.map(|vip| vip.parse().expect("an address")).into(),
        }
    }
}

impl Builder {
    /// Names the lab, which otherwise gets a name of its own. A named lab is not removed as the leftover
    /// of a killed run; [`crate::remove`] does it.
    pub fn name(self, name: &str) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// So many real servers next to the balancer.
    pub fn real_servers(self, real_servers: u8) -> Self {
        Self {
            real_servers,
            ..self
        }
    }

    /// So many more real servers on a second segment, where balancer and client have their `eth1`, and
    /// through which these servers answer the client.
    pub fn on_second_segment(self, on_second_segment: u8) -> Self {
        Self {
            on_second_segment,
            ..self
        }
    }

    /// So many more real servers on a segment behind a router, which is next to the balancer. They answer
    /// by way of the router, so answers do not pass the balancer.
    pub fn behind_router(self, behind_router: u8) -> Self {
        Self {
            behind_router,
            ..self
        }
    }

    /// The client is on a segment of its own, behind a router next to the balancer that forwards packets
    /// of at most `mtu` bytes to it. All links take 1500 bytes, so only this router can tell.
    pub fn client_behind_router(self, mtu: u16) -> Self {
        Self {
            mtu_towards_client: Some(mtu),
            ..self
        }
    }

    /// The client has so many addresses, from `10.9.0.100` and `2001:db8:9::100` on.
    pub fn client_addresses(self, client_addresses: u8) -> Self {
        Self {
            client_addresses,
            ..self
        }
    }

    /// The real servers carry these VIPs.
    pub fn vips(self, vips: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            vips: vips.into_iter().collect(),
            ..self
        }
    }

    /// Makes the lab.
    ///
    /// # Errors
    /// Without root or `ip`, and when a lab of the same name is there.
    pub fn build(self) -> Result<Lab> {
        static LEFTOVERS: Once = Once::new();
        ensure!(
            Uid::effective().is_root(),
            "the network lab needs root: run this with sudo"
        );
        LEFTOVERS.call_once(remains::remove_dead_labs);

        let name = self.name.clone().unwrap_or_else(unique_name);
        let directory = remains::directory(&name);
        fs::create_dir(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let remains = Remains(name.clone());

        let hosts = self.hosts();
        let names = hosts.iter().map(|(host, _)| host.as_str());
        let additions = iter::once("switch")
            .chain(names)
            .map(|host| format!("netns add {name}-{host}"));
        ip_batch(None, additions)?;

        let mut hosts = hosts.into_iter().map(|(host, legs)| {
            let namespace = Namespace::open(format!("{name}-{host}"))?;
            anyhow::Ok(Host {
                name: host,
                namespace,
                legs,
            })
        });
        let mut next = || hosts.next().expect("it is one of the hosts");
        let lab = Lab {
            switch: Namespace::open(format!("{name}-switch"))?,
            client: next()?,
            balancer: next()?,
            router: self.has_router().then(&mut next).transpose()?,
            client_router: self.mtu_towards_client.map(|_| next()).transpose()?,
            real_servers: hosts.collect::<Result<_>>()?,
            name,
            _remains: remains,
        };
        wire(&lab)?;
        self.address(&lab)?;
        Ok(lab)
    }

    fn has_router(&self) -> bool {
        self.behind_router > 0
    }

    /// Names and legs of the client, the balancer, the routers that are wanted, and the real servers.
    fn hosts(&self) -> Vec<(String, Vec<Leg>)> {
        let host = |name: &str, host, segments: &[Option<u8>]| {
            let segments = segments.iter().flatten();
            let legs = segments.map(|&segment| Leg { segment, host }).collect();
            (name.to_owned(), legs)
        };
        let first = Some(FIRST_SEGMENT);
        let second = (self.on_second_segment > 0).then_some(SECOND_SEGMENT);
        let clients = self.mtu_towards_client.map(|_| BEHIND_CLIENT_ROUTER);
        let mut hosts = vec![
            host("client", CLIENT, &[clients.or(first), second]),
            host("balancer", BALANCER, &[first, second]),
        ];
        if self.has_router() {
            hosts.push(host("router", ROUTER, &[first, Some(BEHIND_ROUTER)]));
        }
        if clients.is_some() {
            hosts.push(host("client-router", CLIENT_ROUTER, &[first, clients]));
        }
        let places = [
            (self.real_servers, FIRST_SEGMENT),
            (self.on_second_segment, SECOND_SEGMENT),
            (self.behind_router, BEHIND_ROUTER),
        ];
        let segments = places
            .into_iter()
            .flat_map(|(count, segment)| iter::repeat_n(segment, count.into()));
        hosts.extend(segments.zip(0..).map(|(segment, index)| {
            let name = format!("web-{}", index + 1);
            host(&name, FIRST_REAL_SERVER + index, &[Some(segment)])
        }));
        hosts
    }

    /// Gives the hosts their addresses and routes.
    fn address(&self, lab: &Lab) -> Result<()> {
        for host in hosts(lab) {
            let legs = host
                .legs
                .iter()
                .zip(0..)
                .flat_map(|(leg, n)| interface(*leg, n));
            let loopback = iter::once("link set dev lo up".into());
            ip_batch(Some(host), loopback.chain(legs).chain(routes(lab, host)))?;
        }
        let more = (1..self.client_addresses).map(|n| Leg {
            host: CLIENT + n,
            ..lab.client.legs[0]
        });
        ip_batch(Some(&lab.client), more.flat_map(|leg| addresses(leg, 0)))?;
        for router in [&lab.router, &lab.client_router].into_iter().flatten() {
            router.sysctls(ROUTER_SYSCTLS)?;
        }
        if let (Some(router), Some(mtu)) = (&lab.client_router, self.mtu_towards_client) {
            ip_batch(Some(router), routes_with_mtu(mtu))?;
        }
        for server in &lab.real_servers {
            server.sysctls(REAL_SERVER_SYSCTLS)?;
            let vips = self
                .vips
                .iter()
                .map(|vip| format!("addr add {vip} dev lo{}", nodad(*vip)));
            ip_batch(Some(server), vips)?;
        }
        Ok(())
    }
}

fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!(
        "{TEST_PREFIX}{}-{}",
        process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    )
}

fn hosts(lab: &Lab) -> impl Iterator<Item = &Host> + Clone {
    [&lab.client, &lab.balancer]
        .into_iter()
        .chain(&lab.router)
        .chain(&lab.client_router)
        .chain(&lab.real_servers)
}

/// Connects every leg to a port of its segment's bridge.
fn wire(lab: &Lab) -> Result<()> {
    // The switch has no addresses, so it takes no part in neighbour discovery.
    lab.switch
        .sysctls(&[("ipv6/conf/default/disable_ipv6", "1")])?;
    hosts(lab).try_for_each(|host| host.sysctls(HOST_SYSCTLS))?;

    let legs = hosts(lab).flat_map(|host| {
        host.legs
            .iter()
            .zip(0..)
            .map(move |(&leg, n)| (host, leg, n))
    });
    let cables = legs.clone().map(|(host, leg, n)| {
        format!(
            "link add eth{n} netns {} address {} type veth peer name {} netns {}",
            host.namespace(),
            leg.mac().map(|byte| format!("{byte:02x}")).join(":"),
            host.port(leg),
            lab.switch.name(),
        )
    });
    ip_batch(None, cables)?;

    let bridges: BTreeSet<_> = legs.clone().map(|(_, leg, _)| leg.bridge()).collect();
    let bridges = bridges
        .into_iter()
        .map(|bridge| format!("link add {bridge} up type bridge forward_delay 0 mcast_snooping 1"));
    let ports = legs.clone().map(|(host, leg, _)| {
        format!("link set dev {} master {} up", host.port(leg), leg.bridge())
    });
    ip_batch(Some(&lab.switch), bridges.chain(ports))?;

    lab.switch.run(|| {
        legs.clone()
            .try_for_each(|(host, leg, _)| device_features::set(&host.port(leg), CABLE_FEATURES))?;
        // A veth takes frames that the other end's program sends by XDP_TX only if it has a program too:
        // with GRO alone they are queued, and nobody wakes the queue (drivers/net/veth.c, veth_xdp_flush).
        let mut legs = lab.balancer.legs.iter();
        legs.try_for_each(|&leg| pass_program::attach(&lab.balancer.port(leg)))
    })?;
    legs.clone().try_for_each(|(host, _, n)| {
        host.run(|| device_features::set(&format!("eth{n}"), CABLE_FEATURES))
    })
}

/// The `ip` commands for `ethN`.
fn interface(leg: Leg, n: u8) -> impl Iterator<Item = String> {
    iter::once(format!("link set dev eth{n} up")).chain(addresses(leg, n))
}

fn addresses(leg: Leg, n: u8) -> [String; 2] {
    [
        format!("addr add {}/16 dev eth{n}", leg.v4()),
        format!("addr add {}/48 dev eth{n} nodad", leg.v6()),
    ]
}

/// The ways of a host to the segments that it is not on.
fn routes(lab: &Lab, host: &Host) -> Vec<String> {
    let place = host.legs[0].segment;
    let routers = lab.router.iter().chain(&lab.client_router);
    // Real servers on the second segment have only the client to talk to.
    let ways_out = iter::once(&lab.client)
        .chain(routers.clone())
        .filter_map(|gateway| gateway.legs.get(1))
        .filter(|leg| leg.segment == place)
        .map(|&leg| (["0.0.0.0/0".into(), "::/0".into()], leg));
    let ways_in = routers
        .filter(|router| place == FIRST_SEGMENT && router.name != host.name)
        .map(|router| (router.legs[1].networks(), router.legs[0]));
    ways_out
        .chain(ways_in)
        .flat_map(|([v4, v6], gateway)| {
            [
                format!("route add {v4} via {}", gateway.v4()),
                format!("route add {v6} via {}", gateway.v6()),
            ]
        })
        .collect()
}

/// Of the client router: narrower than the segment, so that these win, and wide enough for every client.
fn routes_with_mtu(mtu: u16) -> [String; 2] {
    let [v4, v6] = ["10.12.0.0/24", "2001:db8:c::/64"];
    [v4, v6].map(|to| format!("route add {to} dev eth1 mtu {mtu}"))
}

fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}
