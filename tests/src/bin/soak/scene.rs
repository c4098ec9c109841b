//! What is balanced: virtual servers of every kind in both families, the machines behind them, and the daemon.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use lb_tests::{Daemon, Decap, Host, HttpServer, Lab, TcpServer, UdpServer};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    excuses::Excuse,
    random::Random,
    traffic::{Manner, Service, Traffic},
};

pub const MACHINES: usize = 4;
pub const CLIENT_ADDRESSES: u8 = 8;

/// Where lines are answered, over connections that stay.
const LINES: u16 = 7;
/// Where nobody listens. The machines' refusals go to the client directly, so that `lb` sees a SYN and then nothing.
pub const REFUSED: u16 = 9;
const DNS: u16 = 53;
const HTTP: u16 = 80;
/// The ports of virtual servers that are added.
const MORE: [u16; Plan::MOST_VIRTUAL_SERVERS] = [8001, 8002, 8003, 8004];

/// How virtual servers choose and what they remember. Each has a VIP in each family, with its TCP and its UDP.
const KINDS: [(&str, &str); 5] = [
    ("turns", "forward: l2dsr, predictor: round_robin"),
    ("least", "forward: l3dsr, predictor: least_connection"),
    (
        "sticky",
        "forward: l2dsr, predictor: response_time, sticky: {timeout: 1m}",
    ),
    (
        "changes",
        "forward: l3dsr, predictor: hash, session: {mode: on_change, settle: 10s}",
    ),
    (
        STATELESS,
        "forward: l2dsr, predictor: source_hash, session: {mode: stateless}",
    ),
];
const STATELESS: &str = "stateless";

/// A place for every session of a quiet minute, and few enough for a flood to fill them.
const SETTINGS: &str = "
limits: {sessions: 8000, sticky: 1000, virtual_servers: 24, real_servers: 12}
defaults: {health: {interval: 1s, timeout: 1s, rise: 2, fall: 4}}
";

/// The VIP of the kind at `index`, in each family.
fn vips(index: usize) -> [IpAddr; 2] {
    let number = index + 1;
    [
        format!("10.9.1.{number}"),
        format!("2001:db8:9:1::{number}"),
    ]
    .map(|vip| vip.parse().expect("an address"))
}

/// Every kind in each family: its name, VIP, settings, and what its real servers' names begin with.
fn kinds() -> impl Iterator<Item = (String, IpAddr, &'static str, &'static str)> {
    KINDS.iter().enumerate().flat_map(|(index, (name, keys))| {
        let families = vips(index).into_iter().zip([("", "web"), ("6", "web6")]);
        families.map(move |(vip, (end, servers))| (format!("{name}{end}"), vip, *keys, servers))
    })
}

/// What clients use.
pub fn services() -> Vec<Service> {
    let service = |(name, vip, ..): (String, IpAddr, &str, &str)| {
        let keeps_flows = !name.starts_with(STATELESS);
        [
            (Manner::Requests, HTTP),
            (Manner::Connections, LINES),
            (Manner::Datagrams, DNS),
        ]
        .into_iter()
        // Without sessions, connections move with the table: there is nothing to demand of long ones.
        .filter(move |(manner, _)| keeps_flows || *manner != Manner::Connections)
        .map(move |(manner, port)| Service {
            name: name.clone(),
            manner,
            address: SocketAddr::new(vip, port),
            keeps_flows,
        })
    };
    kinds().flat_map(service).collect()
}

/// The VIPs that have sessions.
pub fn flooded() -> impl Iterator<Item = SocketAddr> {
    (0..KINDS.len() - 1)
        .flat_map(vips)
        .map(|vip| SocketAddr::new(vip, REFUSED))
}

pub fn lab() -> Result<Lab> {
    Lab::builder()
        .real_servers(MACHINES as u8)
        .client_addresses(CLIENT_ADDRESSES)
        .vips((0..KINDS.len()).flat_map(vips))
        .build()
}

/// What the configuration file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Of each machine; `None`: it is not bound.
    pub weights: [Option<usize>; MACHINES],
    pub more_virtual_servers: usize,
    pub more_real_servers: usize,
}

impl Plan {
    /// That have room in [`SETTINGS`].
    pub const MOST_VIRTUAL_SERVERS: usize = 4;
    pub const MOST_REAL_SERVERS: usize = 4;

    pub const USUAL: Self = Self {
        weights: [Some(1); MACHINES],
        more_virtual_servers: 0,
        more_real_servers: 0,
    };

    pub fn config(&self, lab: &Lab) -> String {
        let bound = |prefix: &str| {
            let machines = self.weights.iter().zip(1..);
            let bound = machines.filter_map(|(weight, number)| Some(((*weight)?, number)));
            bound
                .map(|(weight, number)| format!("{{server: {prefix}-{number}, weight: {weight}}}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let usual = kinds().map(|(name, vip, keys, servers)| {
            let bind = bound(servers);
            format!(
                "- {{name: {name}, vip: '{vip}', protocol: tcp, port: [{LINES}, {REFUSED}, {HTTP}], {keys}, bind: [{bind}], health: {{checks: [arp, syn]}}}}
- {{name: {name}-udp, vip: '{vip}', protocol: udp, port: {DNS}, {keys}, bind: [{bind}], health: {{checks: [arp, udp: {{send: hello}}]}}}}
"
            )
        });
        let [vip, _] = vips(0);
        let more = (0..self.more_virtual_servers).map(|index| {
            // One too many is refused before anybody asks whether its port is taken.
            let port = MORE.get(index).copied().unwrap_or(1);
            format!("- {{name: more-{index}, vip: {vip}, protocol: tcp, port: {port}, bind: [web], health: {{checks: [arp, syn]}}}}\n")
        });
        let servers: String = (0..self.more_real_servers)
            .map(|index| format!("  spare-{index}: 10.9.0.{}\n", 200 + index))
            .collect();
        let config = lab.config(&usual.chain(more).collect::<String>());
        config.replace("real_servers:\n", &format!("real_servers:\n{servers}")) + SETTINGS
    }
}

/// What serves on a machine. It ends when it goes.
type Processes = (HttpServer, TcpServer, UdpServer);

/// Everything, and the traffic that goes on.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub traffic: &'a Traffic,
    pub random: Random,
    plan: Plan,
    daemon: Option<Daemon<'a>>,
    /// By machine.
    processes: BTreeMap<usize, Processes>,
    _decap: Vec<Decap>,
}

impl<'a> Scene<'a> {
    /// Starts the machines and the daemon.
    pub fn new(lab: &'a Lab, traffic: &'a Traffic, random: Random) -> Result<Self> {
        let decap = lab.real_servers().iter();
        let decap = decap.map(|host| lab.decapsulate(host, ""));
        let mut scene = Self {
            lab,
            traffic,
            random,
            plan: Plan::USUAL,
            daemon: None,
            processes: BTreeMap::new(),
            _decap: decap.collect::<Result<_>>()?,
        };
        for machine in 1..=MACHINES {
            scene.start_processes(machine);
        }
        scene.start()?;
        Ok(scene)
    }

    /// Any of the machines, counted from 1.
    pub fn any_machine(&mut self) -> usize {
        self.random.below(MACHINES) + 1
    }

    pub fn host(&self, machine: usize) -> &'a Host {
        self.lab.real_server(machine)
    }

    pub fn start_processes(&mut self, machine: usize) {
        let host = self.host(machine);
        let datagrams: Vec<_> = kinds().map(|(_, vip, ..)| (vip, DNS)).collect();
        let ports: Vec<_> = [HTTP].into_iter().chain(MORE).collect();
        let processes = (
            HttpServer::start(host, &ports),
            TcpServer::start(host, &[LINES]),
            UdpServer::start(host, &datagrams),
        );
        self.processes.insert(machine, processes);
    }

    pub fn stop_processes(&mut self, machine: usize) {
        self.processes.remove(&machine);
    }

    /// The daemon, if it runs.
    pub const fn daemon(&self) -> Option<&Daemon<'a>> {
        self.daemon.as_ref()
    }

    /// The daemon, where it must run.
    pub fn running(&self) -> Result<&Daemon<'a>> {
        self.daemon().context("no daemon runs")
    }

    pub fn start(&mut self) -> Result<()> {
        self.start_by(&["env"])
    }

    /// Starts the daemon by a command that becomes it, and waits until all is up.
    pub fn start_by(&mut self, by: &[&str]) -> Result<()> {
        let daemon = Daemon::spawn_by(self.lab, &self.plan.config(self.lab), by)?;
        daemon.wait_until_up()?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Ends the daemon.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        let daemon = self.daemon.take().context("no daemon runs")?;
        daemon.stop(signal)?;
        Ok(())
    }

    /// Starts a daemon by a command that becomes it. It must give up, and say these words.
    pub fn start_in_vain(&self, by: &[&str], config: &str, words: &str) -> Result<()> {
        let before = self.lab.log().len();
        let status = Daemon::spawn_by(self.lab, config, by)?.wait()?;
        let said = self.lab.log().split_off(before);
        ensure!(
            status.code() == Some(1) && said.contains(words),
            "a start that must fail with `{words}` ended with {status}:\n{said}"
        );
        Ok(())
    }

    /// Waits until a machine is down wherever it is bound.
    pub fn wait_until_down(&self, machine: usize) -> Result<()> {
        let names = ["web", "web6"].map(|prefix| format!("{prefix}-{machine}"));
        let all = |status: &Value| {
            let servers = list(&status["virtual_servers"]).flat_map(|it| list(&it["real_servers"]));
            let mut named = servers.filter(|it| names.iter().any(|name| it["name"] == **name));
            named.all(|it| it["state"] == "down")
        };
        let what = format!("web-{machine} is down everywhere");
        self.running()?.wait_until(&what, all).map(drop)
    }

    /// Waits until all is up again.
    pub fn wait_until_up(&self) -> Result<()> {
        self.running()?.wait_until_up().map(drop)
    }

    /// Makes the file say this, and the daemon apply it.
    pub fn apply(&mut self, plan: Plan) -> Result<()> {
        self.plan = plan;
        let _excuse = self.traffic.excuse(&[Excuse::TablesChange]);
        self.lab.write_config(&self.plan.config(self.lab))?;
        let (code, said) = self.reload()?;
        ensure!(code == Some(0), "a good file was refused: {said}");
        self.wait_until_up()
    }

    /// Makes the file say something that must be refused with these words, and change nothing.
    pub fn apply_in_vain(&self, config: &str, words: &str) -> Result<()> {
        let status = self.running()?.status()?;
        let before = weights(&status);
        self.lab.write_config(config)?;
        let (code, said) = self.reload()?;
        ensure!(
            code == Some(1) && said.contains(words),
            "a file that must be refused with `{words}`: {said}"
        );
        let status = self.running()?.status()?;
        let now = weights(&status);
        ensure!(
            now == before,
            "a file that was refused made {now:?} of {before:?}"
        );
        Ok(())
    }

    fn reload(&self) -> Result<(Option<i32>, String)> {
        let output = self.lab.lb("reload --socket {socket}")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }

    /// The file as it should be.
    pub fn config(&self) -> String {
        self.plan.config(self.lab)
    }

    /// Where clients reach the first virtual server that [`Plan::more_virtual_servers`] adds.
    pub fn added(&self) -> SocketAddr {
        let [vip, _] = vips(0);
        SocketAddr::new(vip, MORE[0])
    }
}

/// The real servers of each virtual server, and their weights.
fn weights(status: &Value) -> Vec<(&Value, Vec<[&Value; 2]>)> {
    let of = |it| list(it).map(|it| [&it["name"], &it["weight"]]).collect();
    let virtual_servers = list(&status["virtual_servers"]);
    virtual_servers
        .map(|it| (&it["name"], of(&it["real_servers"])))
        .collect()
}

/// The elements of a list; none if it is none.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
