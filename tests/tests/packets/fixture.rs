//! The balancer that every case meets: its configuration, and the network around it.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use lb_common::Interface as InterfaceEntry;
use lb_user::{
    config::Config,
    control::{Platform, Reconciler, desired},
    dataplane::{Sizes, Tables},
    net::{Interface, NextHop, Unreachable, View},
};

use crate::frames::{Family, Flow, Mac};

/// An interface of the balancer.
#[derive(Debug, PartialEq, Eq)]
pub struct Port {
    pub name: &'static str,
    pub ifindex: u32,
    pub mac: Mac,
}

/// Where clients' packets arrive, and some real servers are.
pub static LAN: Port = Port {
    name: "lan",
    ifindex: 11,
    mac: [0x02, 0, 0, 0, 0x01, 0x00],
};

/// Where other real servers are.
pub static FAR: Port = Port {
    name: "far",
    ifindex: 21,
    mac: [0x02, 0, 0, 0, 0x02, 0x00],
};

/// A real server, of both families.
pub struct Server {
    name: &'static str,
    addresses: [&'static str; 2],
    pub mac: Mac,
    pub port: &'static Port,
    answers: bool,
}

pub static WEB: Server = Server {
    name: "web",
    addresses: ["10.9.0.11", "2001:db8:9::11"],
    mac: [0x02, 0, 0, 0, 0x01, 0x11],
    port: &LAN,
    answers: true,
};

static WEB_2: Server = Server {
    name: "web-2",
    addresses: ["10.9.0.12", "2001:db8:9::12"],
    mac: [0x02, 0, 0, 0, 0x01, 0x12],
    port: &LAN,
    answers: true,
};

static FAR_AWAY: Server = Server {
    name: "far-away",
    addresses: ["10.10.0.11", "2001:db8:10::11"],
    mac: [0x02, 0, 0, 0, 0x02, 0x11],
    port: &FAR,
    answers: true,
};

static DEAD: Server = Server {
    name: "dead",
    addresses: ["10.9.0.99", "2001:db8:9::99"],
    mac: [0; 6],
    port: &LAN,
    answers: false,
};

static SERVERS: [&Server; 4] = [&WEB, &WEB_2, &FAR_AWAY, &DEAD];

/// The VIPs of each family.
pub const VIPS: [[&str; 2]; 3] = [
    ["10.9.1.1", "2001:db8:9:1::1"],
    ["10.9.1.2", "2001:db8:9:1::2"],
    ["10.9.1.3", "2001:db8:9:1::3"],
];

/// A virtual server with one real server. There is one for each [`Flow`].
pub struct Service {
    name: &'static str,
    vip: usize,
    /// As YAML.
    ports: &'static str,
    pub server: &'static Server,
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
        }
    }

    pub fn vip(&self, family: Family) -> IpAddr {
        vip(self.vip, family)
    }

    /// The name of the virtual server for a flow.
    pub fn name(&self, flow: Flow) -> String {
        name(self.name, flow)
    }

    /// The binding's name in what was counted.
    pub fn binding(&self, flow: Flow) -> String {
        let server = self.server.name(flow.family);
        format!("{} -> {server}", self.name(flow))
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

static SERVICES: [&Service; 8] = [&NEAR, &REMOTE, &LIST, &RANGE, &EXACT, &DOWN, &SECOND, &ANY];

/// The port of the virtual servers that have several real servers, at the first VIP.
pub const MANY: u16 = 82;

/// The last VIP has virtual servers for TCP only, at [`NEAR`]'s port.
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
    fn name(&self, family: Family) -> String {
        format!("{}-{family}", self.name)
    }

    fn address(&self, family: Family) -> IpAddr {
        let address = self.addresses[family as usize];
        address.parse().expect("an address")
    }
}

fn config() -> Config {
    let mut yaml = String::from("interfaces: [{name: lan}, {name: far}]\n");
    yaml += "limits: {virtual_servers: 64, real_servers: 16}\n";
    yaml += "defaults: {forward: l2dsr, predictor: hash}\n";
    yaml += "real_servers:\n";
    for family in Family::ALL {
        for server in SERVERS {
            let (name, address) = (server.name(family), server.address(family));
            yaml += &format!("  {name}: \"{address}\"\n");
        }
    }
    yaml += "virtual_servers:\n";
    for flow in Flow::all() {
        let protocol = flow.protocol;
        let mut add = |service, vip: IpAddr, ports: &str, servers: &[&Server]| {
            let names = servers.iter().map(|server| server.name(flow.family));
            let bind = names.collect::<Vec<_>>().join(", ");
            let name = name(service, flow);
            yaml += &format!(
                "  - {{name: {name}, vip: \"{vip}\", protocol: {protocol}, port: {ports}, bind: [{bind}]}}\n"
            );
        };
        for service in SERVICES {
            let vip = service.vip(flow.family);
            add(service.name, vip, service.ports, &[service.server]);
        }
        let many = [&WEB, &WEB_2, &FAR_AWAY];
        add("many", NEAR.vip(flow.family), &MANY.to_string(), &many);
        if flow.protocol.is_tcp() {
            add("tcp-only", tcp_only_vip(flow.family), NEAR.ports, &[&WEB]);
        }
    }
    Config::parse("packets.yaml", &yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// What the daemon would see of the network.
fn view() -> View {
    const MTU: u32 = 9000;
    let next_hop = |server: &Server, neighbour| {
        if server.answers {
            Ok(NextHop {
                interface: server.port.name.to_owned(),
                ifindex: server.port.ifindex,
                source_mac: server.port.mac,
                source_address: None,
                gateway: None,
                mac: server.mac,
                mtu: MTU,
            })
        } else {
            Err(Unreachable::NoAnswer {
                neighbour,
                interface: server.port.name.to_owned(),
            })
        }
    };
    let addresses = SERVERS
        .iter()
        .flat_map(|server| Family::ALL.map(|family| (server, server.address(family))));
    let interface = |port: &Port| Interface {
        ifindex: port.ifindex,
        mac: Some(port.mac),
        mtu: MTU,
        up: true,
        kind: None,
    };
    View {
        next_hops: addresses
            .map(|(server, address)| (address, next_hop(server, address)))
            .collect(),
        interfaces: [&LAN, &FAR]
            .map(|port| (port.name.to_owned(), interface(port)))
            .into(),
    }
}

/// The content of the map `interfaces`.
pub fn interfaces() -> [(u32, InterfaceEntry); 2] {
    [&LAN, &FAR].map(|port| {
        let entry = InterfaceEntry {
            mac: port.mac,
            reserved: [0; 2],
        };
        (port.ifindex, entry)
    })
}

/// How large the tables are: small where there are counters, because all of them are read for each case.
pub fn sizes() -> Sizes {
    Sizes {
        virtual_servers: 64,
        bindings: 128,
        ..Sizes::new(&config().limits)
    }
}

/// Fills the tables as the daemon does.
pub fn reconcile<P: Platform>(tables: Tables, platform: P) -> Reconciler<P> {
    let wanted = desired::desired(&config(), &view(), &HashMap::new());
    let mut reconciler = Reconciler::new(tables, &sizes(), platform);
    reconciler.apply(&wanted).expect("the tables have room");
    reconciler
}

/// What counters are called in the expectations.
pub struct CounterNames {
    virtual_servers: BTreeMap<u32, String>,
    bindings: BTreeMap<u32, String>,
}

impl CounterNames {
    /// The names of the counters in use.
    pub fn new<P: Platform>(reconciler: &Reconciler<P>) -> Self {
        let mut names = Self {
            virtual_servers: BTreeMap::new(),
            bindings: BTreeMap::new(),
        };
        for virtual_server in config().virtual_servers {
            let name = virtual_server.name;
            for binding in virtual_server.bind {
                let index = reconciler.binding_counters(&name, &binding.server);
                let binding = format!("{name} -> {}", binding.server);
                names.bindings.insert(index.expect("bound"), binding);
            }
            let id = reconciler.virtual_server_id(&name);
            names.virtual_servers.insert(id.expect("configured"), name);
        }
        names
    }

    /// Of an index of `virtual_server_counters`.
    pub fn virtual_server(&self, id: u32) -> String {
        let unused = || format!("virtual_server_counters[{id}]");
        self.virtual_servers
            .get(&id)
            .cloned()
            .unwrap_or_else(unused)
    }

    /// Of an index of `binding_counters`.
    pub fn binding(&self, index: u32) -> String {
        let unused = || format!("binding_counters[{index}]");
        self.bindings.get(&index).cloned().unwrap_or_else(unused)
    }
}
