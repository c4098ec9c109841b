//! A balancer in the kernel, filled as the daemon does it.

use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Sub,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result};
use aya::programs::{ProgramFd, Xdp};
use bytemuck::Pod;
use lb_common::{Interface as InterfaceEntry, SessionEvent, benchmark::OWN_MAC};
use lb_user::{
    config::{Config, Limits},
    control::{Reconciler, desired},
    dataplane::{Array, CounterMaps, Pins, Program, Sizes, Tables, load},
    health::{Check, States},
    net::{Interface, NextHop, View, Way},
};

use crate::traffic::Family;

const MTU: u16 = 1500;

/// How packets are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    L2dsr,
    L3dsr,
}

/// What a balancer has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub forward: Forward,
    pub families: &'static [Family],
    /// Of each family.
    pub real_servers: usize,
    pub services: Services,
    /// `limits.sessions`.
    pub sessions: u32,
}

/// The virtual servers, each bound to all real servers of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// One at each port below, for the VIP of each family.
    OfEachKind,
    /// As many of one kind, at as many VIPs of IPv4.
    Many { count: u32, port: u16 },
}

/// The ports of virtual servers, of TCP.
pub const STATEFUL: u16 = 80;
pub const STATELESS: u16 = 81;
pub const STICKY: u16 = 82;
pub const SOURCE_HASH: u16 = 83;
pub const ROUND_ROBIN: u16 = 84;
pub const LEAST_CONNECTION: u16 = 85;
pub const RESPONSE_TIME: u16 = 86;
pub const ON_CHANGE: u16 = 87;

const PORTS: [(u16, &str); 8] = [
    (STATEFUL, ""),
    (STATELESS, "session: {mode: stateless}, "),
    (ON_CHANGE, "session: {mode: on_change}, "),
    (STICKY, "sticky: {timeout: 10m}, "),
    (SOURCE_HASH, "predictor: source_hash, "),
    (ROUND_ROBIN, "predictor: round_robin, "),
    (LEAST_CONNECTION, "predictor: least_connection, "),
    (
        RESPONSE_TIME,
        "predictor: response_time, health: {checks: [syn]}, ",
    ),
];

/// What a balancer has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub forwarded: u64,
    /// Sessions that began.
    pub sessions: u64,
    pub dropped: u64,
    /// Sessions that made room for others.
    pub evicted: u64,
    /// Flows that got no session, because too many began.
    pub unrecorded: u64,
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            forwarded: self.forwarded - before.forwarded,
            sessions: self.sessions - before.sessions,
            dropped: self.dropped - before.dropped,
            evicted: self.evicted - before.evicted,
            unrecorded: self.unrecorded - before.unrecorded,
        }
    }
}

pub struct Balancer {
    program: Program,
    fd: ProgramFd,
    reconciler: Reconciler<CounterMaps>,
    /// The indices of their counters.
    bindings: Vec<u32>,
    /// By the MAC address of the way to each.
    real_servers: HashMap<[u8; 6], IpAddr>,
}

impl Balancer {
    /// One whose packets come in by an interface with the MAC address [`OWN_MAC`], and leave by it.
    pub fn load(spec: &Spec, ifindex: u32) -> Result<Self> {
        let config = config(spec)?;
        let sizes = Sizes::new(&config.limits);
        // What is loaded needs its pins no longer.
        let temporary = TemporaryPins::create()?;
        let loaded = load::load(&temporary.0, &sizes)?;
        drop(temporary);
        let tables = loaded.tables;
        let entry = InterfaceEntry {
            ifindex,
            mac: OWN_MAC,
            ..InterfaceEntry::default()
        };
        tables
            .interfaces
            .set(InterfaceEntry::place(ifindex, 0), entry);
        tables.make_secrets().context("a random number")?;
        tables.set_limits(&config.limits);
        let mut reconciler = Reconciler::new(tables, &sizes, loaded.counters);
        let view = view(&config, ifindex);
        let wanted = desired::desired(&config, &view, &HashMap::new(), &[], &all_up(&config));
        reconciler.apply(&wanted)?;
        let mut program = loaded.balancer;
        let next_hops = view.next_hops.into_iter();
        Ok(Self {
            fd: program.xdp().fd()?.try_clone()?,
            program,
            bindings: reconciler.all_counters().collect(),
            reconciler,
            real_servers: next_hops
                .filter_map(|(address, next_hop)| Some((next_hop.ok()?.mac, address)))
                .collect(),
        })
    }

    pub const fn fd(&self) -> &ProgramFd {
        &self.fd
    }

    pub fn program(&mut self) -> &mut Xdp {
        self.program.xdp()
    }

    /// The real server that frames to a MAC address are for.
    pub fn real_server(&self, mac: [u8; 6]) -> Option<IpAddr> {
        self.real_servers.get(&mac).copied()
    }

    /// The arrays that packets follow.
    pub const fn tables(&self) -> &Tables {
        self.reconciler.tables()
    }

    /// All that was counted.
    pub fn counts(&self) -> Result<Counts> {
        let counters = self.reconciler.platform();
        let mut counts = Counts::default();
        for binding in counters.bindings(&self.bindings)? {
            counts.forwarded += binding.packets;
            counts.sessions += binding.sessions;
        }
        counts.dropped = counters.drops()?.iter().map(|&(_, packets)| packets).sum();
        for (event, times) in counters.session_events()? {
            match event {
                SessionEvent::Evicted => counts.evicted = times,
                SessionEvent::Unrecorded => counts.unrecorded = times,
            }
        }
        Ok(counts)
    }

    /// Empties the session table of a family, and forgets its sticky clients.
    pub fn forget_sessions(&self, family: Family) {
        let tables = &self.reconciler.tables().sessions;
        match family {
            Family::V4 => {
                clear(&tables.sessions_v4);
                clear(&tables.sticky_v4);
            }
            Family::V6 => {
                clear(&tables.sessions_v6);
                clear(&tables.sticky_v6);
            }
        }
    }
}

fn clear<T: Pod>(array: &Array<T>) {
    for index in 0..array.len() {
        array.set(index, T::zeroed());
    }
}

/// The first VIP of a family.
pub const fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 9, 16, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 1, 0, 0, 0, 1)),
    }
}

/// Of the balancer: the source of outer headers.
pub const fn own_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1)),
    }
}

/// The limits of its configuration.
pub fn limits(spec: &Spec) -> Result<Limits> {
    Ok(config(spec)?.limits)
}

fn config(spec: &Spec) -> Result<Config> {
    let Spec {
        forward,
        families,
        real_servers,
        services,
        sessions,
    } = *spec;
    let forward = format!("{forward:?}").to_lowercase();
    let mut yaml = format!(
        "interfaces: [{{name: lo}}]\nlimits: {{sessions: {sessions}, sticky: {}, cps_per_cpu: 100000000}}\nreal_servers:\n",
        sessions.min(100_000)
    );
    let names = |family: &Family| -> Vec<_> {
        let numbers = 0..real_servers;
        numbers
            .map(|it| format!("{}-{it}", family.name()))
            .collect()
    };
    for family in families {
        for (server, name) in names(family).iter().enumerate() {
            let (high, low) = (server / 250, server % 250 + 1);
            match family {
                Family::V4 => writeln!(yaml, "  {name}: 10.10.{high}.{low}"),
                Family::V6 => writeln!(yaml, "  {name}: \"2001:db8:a::{high:x}:{low:x}\""),
            }?;
        }
    }
    yaml += "groups:\n";
    for family in families {
        writeln!(yaml, "  {}: [{}]", family.name(), names(family).join(", "))?;
    }
    yaml += "virtual_servers:\n";
    let mut add = |vip: IpAddr, protocol, port, settings| {
        let family = Family::of(vip).name();
        let name = vip.to_string().replace(':', "-");
        writeln!(
            yaml,
            "  - {{name: {protocol}-{name}-{port}, vip: \"{vip}\", protocol: {protocol}, port: {port}, forward: {forward}, {settings}bind: [{family}]}}"
        )
    };
    match services {
        Services::OfEachKind => {
            for vip in families.iter().copied().map(vip) {
                add(vip, "udp", STATEFUL, "")?;
                for (port, settings) in PORTS {
                    add(vip, "tcp", port, settings)?;
                }
            }
        }
        Services::Many { count, port } => {
            let IpAddr::V4(first) = vip(Family::V4) else {
                unreachable!("it is an IPv4 address")
            };
            let kind = PORTS.iter().find(|(known, _)| *known == port);
            let (_, settings) = kind.context("no virtual server is at this port")?;
            for vip in (u32::from(first)..).take(count as usize) {
                add(Ipv4Addr::from(vip).into(), "tcp", port, settings)?;
            }
        }
    }
    Ok(Config::parse("bench.yaml", &yaml)?)
}

/// All real servers are reached through the interface that packets come in by.
fn view(config: &Config, ifindex: u32) -> View {
    let addresses = config.real_servers.values().map(|it| it.address);
    let next_hops = (0_u16..).zip(addresses).map(|(number, address)| {
        let way = Way {
            interface: "lo".to_owned(),
            ifindex,
            source_mac: OWN_MAC,
            source_address: Some(own_address(Family::of(address))),
            gateway: None,
            mtu: MTU.into(),
        };
        let [high, low] = number.to_be_bytes();
        let mac = [2, 0, 0, 1, high, low];
        (address, Ok(NextHop { way, mac }))
    });
    let interface = Interface {
        ifindex,
        mac: Some(OWN_MAC),
        mtu: MTU.into(),
        up: true,
        kind: None,
        xdp: None,
    };
    View {
        next_hops: next_hops.collect(),
        interfaces: [("lo".to_owned(), interface)].into(),
        ..View::default()
    }
}

/// All real servers pass their checks.
fn all_up(config: &Config) -> States {
    let mut states = States::default();
    let checks = config.virtual_servers.iter().flat_map(|virtual_server| {
        virtual_server.bind.iter().flat_map(|binding| {
            let address = config.real_servers[&binding.server].address;
            Check::all_of(&binding.server, address, virtual_server)
        })
    });
    states.set(checks.map(|check| (check, true)));
    states
}

/// Pins that go when this is dropped.
struct TemporaryPins(Pins);

/// Directories in which benchmarks pin, each named after its process.
const DIRECTORY: &str = "/sys/fs/bpf";
const PREFIX: &str = "lb-bench-";

impl TemporaryPins {
    fn create() -> Result<Self> {
        remove_pins_of_the_dead();
        let path = Path::new(DIRECTORY).join(format!("{PREFIX}{}", process::id()));
        let pins = Self(Pins::new(&path));
        pins.0.create()?;
        Ok(pins)
    }
}

impl Drop for TemporaryPins {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            eprintln!("bench: {error}");
        }
    }
}

/// Removes what killed benchmarks have pinned.
fn remove_pins_of_the_dead() {
    let pins = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let dead = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let process = name.strip_prefix(PREFIX)?.split('-').next()?;
        (!Path::new("/proc").join(process).exists()).then_some(())
    };
    for path in pins.map(|entry| entry.path()) {
        if dead(&path).is_some()
            && let Err(error) = fs::remove_dir_all(&path)
        {
            eprintln!("bench: can't remove {}: {error}", path.display());
        }
    }
}
