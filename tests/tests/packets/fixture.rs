//! The balancer that every case meets: its configuration, and the network around it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Display},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use ipnet::IpNet;
use lb_common::{Interface as InterfaceEntry, session::buckets_for};
pub use lb_fuzz::network::{FAR, LAN, Port, VIPS};
use lb_user::{
    config::{Config, Limits},
    control::{Desired, Platform, Reconciler, desired},
    dataplane::{Sizes, Tables},
    health::States,
    net::{Interface, NextHop, Unreachable, View, Way},
};

use crate::frames::{Family, Flow, Mac};

/// A real server, of both families.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    addresses: [&'static str; 2],
    /// Its own, or the gateway's.
    pub mac: Mac,
    pub port: &'static Port,
    answers: bool,
    /// The largest IP packet on the way to it.
    pub mtu: u32,
    gateways: Option<[&'static str; 2]>,
}

/// The MTU of the interfaces.
const JUMBO: u32 = 9000;

impl Server {
    const fn new(name: &'static str, addresses: [&'static str; 2], port: &'static Port) -> Self {
        // The last byte tells servers apart.
        let last = addresses[0].as_bytes()[addresses[0].len() - 1];
        let [a, b, c, d, e, _] = port.mac;
        Self {
            name,
            addresses,
            mac: [a, b, c, d, e, last],
            port,
            answers: true,
            mtu: JUMBO,
            gateways: None,
        }
    }
}

pub static WEB: Server = Server::new("web", ["10.9.0.11", "2001:db8:9::11"], &LAN);
pub static WEB_2: Server = Server::new("web-2", ["10.9.0.12", "2001:db8:9::12"], &LAN);
static FAR_AWAY: Server = Server::new("far-away", ["10.10.0.13", "2001:db8:10::13"], &FAR);
static DEAD: Server = Server {
    answers: false,
    ..Server::new("dead", ["10.9.0.99", "2001:db8:9::99"], &LAN)
};
/// With as little MTU as most networks.
pub static NARROW: Server = Server {
    mtu: 1500,
    ..Server::new("narrow", ["10.9.0.14", "2001:db8:9::14"], &LAN)
};
static ROUTED: Server = Server {
    mtu: 1500,
    gateways: Some(["10.10.0.1", "2001:db8:10::1"]),
    ..Server::new("routed", ["192.0.2.15", "2001:db8:f::15"], &FAR)
};

static SERVERS: [&Server; 6] = [&WEB, &WEB_2, &FAR_AWAY, &DEAD, &NARROW, &ROUTED];

/// The addresses of all real servers.
pub fn server_addresses() -> impl Iterator<Item = IpAddr> {
    let addresses = |server: &Server| Family::ALL.map(|family| server.address(family));
    SERVERS.into_iter().flat_map(addresses)
}

/// A virtual server with one real server. There is one for each [`Flow`].
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    vip: usize,
    /// As YAML.
    ports: &'static str,
    pub server: &'static Server,
    forward: Forward,
}

/// How a service is forwarded.
#[derive(Clone, Copy, Debug)]
enum Forward {
    /// To its server's address of the VIP's family.
    L2Dsr,
    /// To its server's address of this family.
    L3Dsr(Family),
}

impl Service {
    const fn new(
        name: &'static str,
        vip: usize,
        ports: &'static str,
        server: &'static Server,
    ) -> Self {
        Self {
            name,
            vip,
            ports,
            server,
            forward: Forward::L2Dsr,
        }
    }

    const fn by_l3dsr(self, family: Family) -> Self {
        Self {
            forward: Forward::L3Dsr(family),
            ..self
        }
    }

    pub fn vip(&self, family: Family) -> IpAddr {
        vip(self.vip, family)
    }

    /// Its port, if it has one.
    pub fn port(&self) -> u16 {
        self.ports.parse().expect("one port")
    }

    /// The name of the virtual server for a flow.
    pub fn name(&self, flow: Flow) -> String {
        name(self.name, flow)
    }

    /// The binding's name in what was counted.
    pub fn binding(&self, flow: Flow) -> String {
        format!("{} -> {}", self.name(flow), self.server_name(flow))
    }

    /// Where outer headers go to, if it has them.
    pub fn tunnel_to(&self, flow: Flow) -> Option<IpAddr> {
        match self.forward {
            Forward::L2Dsr => None,
            Forward::L3Dsr(_) => Some(self.server.address(self.server_family(flow))),
        }
    }

    /// The length of an outer header.
    pub fn overhead(&self) -> usize {
        match self.forward {
            Forward::L2Dsr => 0,
            Forward::L3Dsr(family) => family.header_length(),
        }
    }

    /// The longest IP packet that reaches its server.
    pub fn fits(&self) -> usize {
        self.server.mtu as usize - self.overhead()
    }

    const fn server_family(&self, flow: Flow) -> Family {
        match self.forward {
            Forward::L2Dsr => flow.family,
            Forward::L3Dsr(family) => family,
        }
    }

    fn server_name(&self, flow: Flow) -> String {
        self.server.name(self.server_family(flow))
    }
}

impl Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Its server is on the interface that packets come in by.
pub static NEAR: Service = Service::new("near", 0, "80", &WEB);
/// Its server is on another interface.
pub static REMOTE: Service = Service::new("remote", 0, "81", &FAR_AWAY);
pub static LIST: Service = Service::new("list", 0, "[443, 8443]", &WEB);
pub static RANGE: Service = Service::new("range", 0, "\"8000-8100\"", &WEB);
/// Inside of [`RANGE`].
pub static EXACT: Service = Service::new("exact", 0, "8050", &FAR_AWAY);
/// Its server does not answer.
pub static DOWN: Service = Service::new("down", 0, "99", &DEAD);
/// [`NEAR`]'s port at another VIP, that also has [`ANY`].
pub static SECOND: Service = Service::new("second", 1, "80", &FAR_AWAY);
pub static ANY: Service = Service::new("any", 1, "any", &WEB);
/// The only service of its VIP, and its server does not answer.
pub static ALL_DOWN: Service = Service::new("all-down", 3, "80", &DEAD);
/// The MTU on the way to its server is 1,500 bytes.
pub static TIGHT: Service = Service::new("tight", 0, "84", &NARROW);
/// L3 DSR on the interface that packets come in by.
pub static TUNNEL: [Service; 2] = [
    Service::new("tunnel-v4", 0, "90", &NARROW).by_l3dsr(Family::V4),
    Service::new("tunnel-v6", 0, "91", &NARROW).by_l3dsr(Family::V6),
];
/// L3 DSR through a gateway on another interface.
pub static ROUTED_TUNNEL: [Service; 2] = [
    Service::new("routed-tunnel-v4", 0, "92", &ROUTED).by_l3dsr(Family::V4),
    Service::new("routed-tunnel-v6", 0, "93", &ROUTED).by_l3dsr(Family::V6),
];
/// L3 DSR of jumbo frames, to the server of [`NEAR`].
pub static JUMBO_TUNNEL: [Service; 2] = [
    Service::new("jumbo-tunnel-v4", 0, "94", &WEB).by_l3dsr(Family::V4),
    Service::new("jumbo-tunnel-v6", 0, "95", &WEB).by_l3dsr(Family::V6),
];

/// Every service, each by one of these names.
pub fn services() -> impl Iterator<Item = &'static Service> {
    [
        &NEAR, &REMOTE, &LIST, &RANGE, &EXACT, &DOWN, &SECOND, &ANY, &ALL_DOWN, &TIGHT,
    ]
    .into_iter()
    .chain(tunnels())
}

/// The services by L3 DSR.
pub fn tunnels() -> impl Iterator<Item = &'static Service> {
    [&TUNNEL, &ROUTED_TUNNEL, &JUMBO_TUNNEL]
        .into_iter()
        .flatten()
}

/// The port of the virtual servers that have several real servers, at the first VIP.
pub const MANY: u16 = 82;
/// The same, by L3 DSR, to servers of both families.
pub const MANY_TUNNELS: u16 = 97;

/// The third VIP has virtual servers for TCP only, at [`NEAR`]'s port.
pub fn tcp_only_vip(family: Family) -> IpAddr {
    vip(2, family)
}

fn vip(index: usize, family: Family) -> IpAddr {
    VIPS[index][family as usize].parse().expect("an address")
}

fn name(service: &str, flow: Flow) -> String {
    format!("{service}-{}-{}", flow.protocol, flow.family)
}

impl Server {
    pub fn name(&self, family: Family) -> String {
        format!("{}-{family}", self.name)
    }

    fn address(&self, family: Family) -> IpAddr {
        let address = self.addresses[family as usize];
        address.parse().expect("an address")
    }
}

/// Where the source addresses of outer headers come from.
#[derive(Clone, Copy, Debug)]
pub enum Sources {
    /// The balancer's own address.
    Own,
    /// Prefixes.
    Spread,
}

/// The balancer's own addresses.
const OWN: [&str; 2] = ["10.9.0.1", "2001:db8:9::1"];
/// The configured prefixes of [`Sources::Spread`].
const PREFIXES: [&str; 2] = ["10.200.0.0/16", "2001:db8:200::/96"];

/// The addresses that an outer header to a server may come from.
pub fn sources(sources: Sources, server: IpAddr) -> IpNet {
    let family = usize::from(server.is_ipv6());
    match sources {
        Sources::Own => {
            let own: IpAddr = OWN[family].parse().expect("an address");
            own.into()
        }
        Sources::Spread => PREFIXES[family].parse().expect("a prefix"),
    }
}

/// The balancer of the table of packet tests.
pub fn config(sources: Sources) -> Config {
    let mut yaml = String::from("interfaces: [{name: lan}, {name: far}]\n");
    yaml += "limits: {virtual_servers: 128, real_servers: 32}\n";
    yaml += "defaults: {predictor: hash, session: {mode: stateless}}\n";
    if let Sources::Spread = sources {
        let [v4, v6] = PREFIXES;
        yaml += &format!("tunnel: {{source_v4: \"{v4}\", source_v6: \"{v6}\"}}\n");
    }
    yaml += &real_servers();
    yaml += "virtual_servers:\n";
    for flow in Flow::all() {
        let protocol = flow.protocol;
        let mut add = |service, vip: IpAddr, ports: &str, forward: &str, servers: &[String]| {
            let bind = servers.join(", ");
            let name = name(service, flow);
            yaml += &format!(
                "  - {{name: {name}, vip: \"{vip}\", protocol: {protocol}, port: {ports}, forward: {forward}, bind: [{bind}]}}\n"
            );
        };
        for service in services() {
            let forward = match service.forward {
                Forward::L2Dsr => "l2dsr",
                Forward::L3Dsr(_) => "l3dsr",
            };
            let vip = service.vip(flow.family);
            let server = service.server_name(flow);
            add(service.name, vip, service.ports, forward, &[server]);
        }
        let vip = NEAR.vip(flow.family);
        let many = [&WEB, &WEB_2, &FAR_AWAY].map(|server| server.name(flow.family));
        add("many", vip, &MANY.to_string(), "l2dsr", &many);
        let many = [&NARROW, &ROUTED].map(|server| Family::ALL.map(|family| server.name(family)));
        let many = many.as_flattened();
        add(
            "many-tunnels",
            vip,
            &MANY_TUNNELS.to_string(),
            "l3dsr",
            many,
        );
        if flow.protocol.is_tcp() {
            let web = WEB.name(flow.family);
            let vip = tcp_only_vip(flow.family);
            add("tcp-only", vip, NEAR.ports, "l2dsr", &[web]);
        }
    }
    Config::parse("packets.yaml", &yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// The section `real_servers`.
pub fn real_servers() -> String {
    let mut yaml = String::from("real_servers:\n");
    for family in Family::ALL {
        for server in SERVERS {
            let (name, address) = (server.name(family), server.address(family));
            yaml += &format!("  {name}: \"{address}\"\n");
        }
    }
    yaml
}

/// What the daemon would see of the network.
fn view() -> View {
    let next_hop = |server: &Server, family: Family| {
        let parse = |address: &str| address.parse().expect("an address");
        let way = Way {
            interface: server.port.name.to_owned(),
            ifindex: server.port.ifindex,
            source_mac: server.port.mac,
            source_address: Some(parse(OWN[family as usize])),
            gateway: server
                .gateways
                .map(|gateways| parse(gateways[family as usize])),
            mtu: server.mtu,
        };
        if server.answers {
            let mac = server.mac;
            Ok(NextHop { way, mac })
        } else {
            let neighbour = server.address(family);
            Err(Unreachable::NoAnswer { neighbour, way })
        }
    };
    let next_hops = SERVERS.into_iter().flat_map(|server| {
        Family::ALL.map(|family| (server.address(family), next_hop(server, family)))
    });
    let interface = |port: &Port| Interface {
        ifindex: port.ifindex,
        mac: Some(port.mac),
        mtu: JUMBO,
        up: true,
        kind: None,
        xdp: None,
    };
    View {
        next_hops: next_hops.collect(),
        interfaces: [&LAN, &FAR]
            .map(|port| (port.name.to_owned(), interface(port)))
            .into(),
        ..View::default()
    }
}

/// The content of the map `interfaces`, by index of the interface.
fn interfaces() -> [(u32, InterfaceEntry); 2] {
    [&LAN, &FAR].map(|port| {
        let entry = InterfaceEntry {
            ifindex: port.ifindex,
            mac: port.mac,
            ..InterfaceEntry::default()
        };
        (port.ifindex, entry)
    })
}

/// Buckets of each table of sessions: few where the limit is the default.
const fn session_buckets(config: &Config) -> u32 {
    match config.limits.sessions {
        sessions if sessions == Limits::DEFAULT.sessions => 64,
        sessions => buckets_for(sessions),
    }
}

/// Buckets of the tables of sticky clients.
const STICKY_BUCKETS: u32 = 64;

/// How large the tables are: small where all of them is read for each case.
pub fn sizes(config: &Config) -> Sizes {
    Sizes {
        virtual_servers: 161,
        bindings: 8 * config.limits.real_servers,
        fragments: 1024,
        sessions_v4: session_buckets(config),
        sessions_v6: session_buckets(config),
        sticky: STICKY_BUCKETS,
        ..Sizes::new(&config.limits)
    }
}

/// Fills the tables as the daemon does.
pub fn reconcile<P: Platform>(tables: Tables, platform: P, config: &Config) -> Reconciler<P> {
    for (ifindex, entry) in interfaces() {
        tables
            .interfaces
            .set(InterfaceEntry::place(ifindex, 0), entry);
    }
    tables.make_secrets().expect("a random number");
    tables.set_limits(&config.limits);
    let mut reconciler = Reconciler::new(tables, &sizes(config), platform);
    let wanted = wanted(config);
    reconciler.apply(&wanted).expect("the tables have room");
    reconciler
}

/// The state that a configuration asks for in the network of the fixture.
pub fn wanted(config: &Config) -> Desired {
    desired::desired(config, &view(), &HashMap::new(), &[], &States::default())
}

/// Active sessions of a real server in a virtual server.
pub fn active<P: Platform>(reconciler: &Reconciler<P>, virtual_server: &str, server: &str) -> u64 {
    let counters = reconciler.binding_counters(virtual_server, server);
    let sessions = &reconciler.tables().sessions;
    counters.map_or(0, |counters| sessions.active(counters))
}

/// Empties the tables of sessions, and starts the round robins anew.
pub fn forget_sessions<P: Platform>(reconciler: &Reconciler<P>) {
    let sessions = &reconciler.tables().sessions;
    let clear = |words: &[AtomicU64]| {
        for word in words {
            word.store(0, Ordering::Relaxed);
        }
    };
    (0..sessions.sessions_v4.len()).for_each(|bucket| clear(sessions.sessions_v4.words(bucket)));
    (0..sessions.sessions_v6.len()).for_each(|bucket| clear(sessions.sessions_v6.words(bucket)));
    (0..sessions.sticky_v4.len()).for_each(|bucket| clear(sessions.sticky_v4.words(bucket)));
    (0..sessions.sticky_v6.len()).for_each(|bucket| clear(sessions.sticky_v6.words(bucket)));
    for counters in 0..sessions.active.len() {
        sessions.active.set(counters, 0);
    }
    (0..sessions.turns.len()).for_each(|id| sessions.turns.set(id, 0));
}

/// What counters are called in the expectations.
pub struct CounterNames {
    bindings: BTreeMap<u32, String>,
}

impl CounterNames {
    /// The names of the counters in use.
    pub fn new<P: Platform>(reconciler: &Reconciler<P>, config: &Config) -> Self {
        let mut names = Self {
            bindings: BTreeMap::new(),
        };
        for virtual_server in &config.virtual_servers {
            let name = virtual_server.name.clone();
            for binding in &virtual_server.bind {
                let index = reconciler.binding_counters(&name, &binding.server);
                let binding = format!("{name} -> {}", binding.server);
                names.bindings.insert(index.expect("bound"), binding);
            }
        }
        names
    }

    /// Of an index of `binding_counters`.
    pub fn binding(&self, index: u32) -> String {
        let unused = || format!("binding_counters[{index}]");
        self.bindings.get(&index).cloned().unwrap_or_else(unused)
    }
}
