//! A validated configuration: what the rest of the daemon works from.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;
use strum::{Display, EnumString, VariantNames};

use super::check::{HealthCheck, Via};
use super::duration;
use super::mac::MacAddress;
use super::ports::Ports;

/// One file, with defaults applied, groups expanded and every name resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Where packets for the VIPs arrive; at least one, names unique.
    pub interfaces: Vec<Interface>,
    /// Directory on a BPF file system for programs, links and maps.
    pub pin_path: PathBuf,
    /// How commands reach the daemon.
    pub control: Control,
    /// `None`: nobody may ask for metrics.
    pub metrics: Option<Metrics>,
    /// Sizes of the kernel's tables.
    pub limits: Limits,
    /// Outer headers of L3 DSR.
    pub tunnel: Tunnel,
    /// By name; at most `limits.real_servers`.
    pub real_servers: BTreeMap<String, RealServer>,
    /// In the order of the file, names unique; at most `limits.virtual_servers`. No two of them take
    /// the same exact port, overlapping ranges or `any` of one VIP and protocol.
    pub virtual_servers: Vec<VirtualServer>,
}

impl Config {
    /// Whether there are health checks that take the way of clients' packets.
    pub fn has_checks_by_data_path(&self) -> bool {
        let mut checks = self.virtual_servers.iter().flat_map(|it| &it.health.checks);
        checks.any(|check| check.via() == Some(Via::Vip))
    }
}

/// A network interface that the balancer program is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The kernel's name for it.
    pub name: String,
    /// How the program is attached.
    pub xdp: XdpMode,
}

/// Where in the kernel an XDP program runs.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Display,
    EnumString,
    VariantNames,
    ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum XdpMode {
    /// Native if the driver can, else generic with a warning.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the network stack: any driver, less speed.
    Generic,
}

/// How commands reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// Absolute path of the Unix socket.
    pub socket: PathBuf,
}

/// How Prometheus reaches the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// The address and TCP port of the HTTP server; the port is not 0.
    pub listen: SocketAddr,
}

/// Outer headers of L3 DSR.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// The source addresses to spread the flows over. `None`: the balancer's own address.
    pub source_v4: Option<Ipv4Net>,
    /// As `source_v4`, for real servers of IPv6; 96 bits or longer.
    pub source_v6: Option<Ipv6Net>,
}

/// How many entries the kernel's tables have room for, and how fast sessions fill theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Sessions of IPv4, 1 to 16777216.
    pub sessions: u32,
    /// Sessions of IPv6, 1 to 16777216.
    pub sessions_v6: u32,
    /// Clients that sticky remembers, of each IP version: 1 to 16777216.
    pub sticky: u32,
    /// New sessions a second that each CPU records, 1 to 100000000. Flows beyond are forwarded by hash,
    /// unrecorded.
    pub cps_per_cpu: u32,
    /// 1 to 32767.
    pub virtual_servers: u32,
    /// 1 to 65535.
    pub real_servers: u32,
}

impl Limits {
    /// Those of a file without any. `sessions_v6` follows `sessions` unless it is written.
    pub const DEFAULT: Self = Self {
        sessions: 1_000_000,
        sessions_v6: 1_000_000,
        sticky: 100_000,
        cps_per_cpu: 100_000,
        virtual_servers: 4096,
        real_servers: 4096,
    };
}

/// A machine that does the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RealServer {
    /// Unicast and not a VIP. Two real servers may share it.
    pub address: IpAddr,
    /// 0 to 1000: for bindings that have no weight of their own.
    pub weight: u16,
    /// `None`: learnt from the network.
    pub mac: Option<MacAddress>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VirtualServer {
    /// Unique.
    pub name: String,
    /// Unicast and not the address of a real server.
    pub vip: IpAddr,
    /// The transport protocol of its sessions.
    pub protocol: Protocol,
    /// The ports of the VIP that it takes.
    #[serde(rename = "port")]
    pub ports: Ports,
    /// How packets reach the real server.
    pub forward: Forward,
    /// How a new session picks its real server.
    pub predictor: Predictor,
    /// What is remembered of flows, and how long.
    pub session: Session,
    /// `None`: a client's sessions have nothing to do with each other. Always so without sessions
    /// ([`SessionMode::Stateless`]).
    pub sticky: Option<Sticky>,
    /// For how long a real server that came up gets less than its share. Always `None` for a predictor
    /// other than [`Predictor::LeastConnection`].
    #[serde(serialize_with = "duration::serialize_option")]
    pub slow_start: Option<Duration>,
    /// In the order of the file, each real server once; may be empty.
    pub bind: Vec<Binding>,
    /// Takes new sessions while fewer than `minimum_up` of the bound ones do: a key of
    /// [`Config::real_servers`], and not bound.
    pub sorry: Option<String>,
    /// With fewer healthy servers than this the virtual server is down; at least 1.
    pub minimum_up: u32,
    /// How its real servers are checked.
    pub health: Health,
}

/// A real server bound to a virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// A key of [`Config::real_servers`].
    pub server: String,
    /// 0 to 1000; the binding's own, else the real server's.
    pub weight: u16,
    /// Gets no new sessions. Always true when `weight` is 0.
    pub drain: bool,
}

/// A transport protocol.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Display,
    EnumString,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => lb_common::protocol::TCP,
            Self::Udp => lb_common::protocol::UDP,
        }
    }
}

/// How packets reach the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Forward {
    /// By rewriting MAC addresses; real server and VIP are of one IP version.
    L2dsr,
    /// Inside an outer IP header.
    L3dsr,
}

impl From<Forward> for lb_common::Forward {
    fn from(forward: Forward) -> Self {
        match forward {
            Forward::L2dsr => Self::L2Dsr,
            Forward::L3dsr => Self::L3Dsr,
        }
    }
}

/// How a new session picks its real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Predictor {
    /// Maglev over addresses, ports and protocol.
    Hash,
    /// Maglev over the client's address.
    SourceHash,
    /// One real server after the other.
    RoundRobin,
    /// The real server with the fewest sessions for its weight.
    LeastConnection,
    /// One real server after the other, those more often that answer health checks faster.
    ResponseTime,
}

impl Predictor {
    /// Whether it may pick another real server for the next packet of a flow, so that only a session keeps
    /// the flow together.
    pub const fn needs_sessions(self) -> bool {
        match self {
            Self::Hash | Self::SourceHash => false,
            Self::RoundRobin | Self::LeastConnection | Self::ResponseTime => true,
        }
    }
}

impl From<OnUnknown> for lb_common::OnUnknown {
    fn from(on_unknown: OnUnknown) -> Self {
        match on_unknown {
            OnUnknown::Forward => Self::Forward,
            OnUnknown::Reset => Self::Reset,
            OnUnknown::Drop => Self::Drop,
        }
    }
}

impl From<OnDown> for lb_common::OnDown {
    fn from(on_down: OnDown) -> Self {
        match on_down {
            OnDown::Move => Self::Move,
            OnDown::Reset => Self::Reset,
        }
    }
}

impl From<Predictor> for lb_common::Predictor {
    fn from(predictor: Predictor) -> Self {
        match predictor {
            Predictor::Hash => Self::Hash,
            Predictor::SourceHash => Self::SourceHash,
            Predictor::RoundRobin => Self::RoundRobin,
            Predictor::LeastConnection => Self::LeastConnection,
            Predictor::ResponseTime => Self::ResponseTime,
        }
    }
}

/// What is remembered of flows. Without sessions ([`SessionMode::Stateless`]) nothing but `mode` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Whether there are sessions.
    pub mode: SessionMode,
    /// A session that no packet renews for so long is over: 1 s to 48 h.
    #[serde(serialize_with = "duration::serialize")]
    pub idle_timeout: Duration,
    /// What becomes of a TCP packet in mid-stream without a session.
    pub on_unknown: OnUnknown,
    /// What becomes of the sessions of a real server that is down.
    pub on_down: OnDown,
    /// With [`SessionMode::OnChange`]: before a change moves flows, those are recorded for so long that send packets:
    /// 1 s to 1 h.
    #[serde(serialize_with = "duration::serialize")]
    pub settle: Duration,
}

/// Whether a flow's real server is remembered.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Display, EnumString, VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SessionMode {
    /// In the session table.
    #[default]
    Stateful,
    /// No session table: the hash alone decides.
    Stateless,
    /// The hash decides, and the session table has the flows that a change of the real servers would move.
    OnChange,
}

/// What becomes of a TCP packet in mid-stream without a session.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Display, EnumString, VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnUnknown {
    /// The hash picks its real server and it gets a session.
    #[default]
    Forward,
    /// The client gets a RST.
    Reset,
    /// It is dropped.
    Drop,
}

/// What becomes of the sessions of a real server that is down.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Display, EnumString, VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnDown {
    /// They go on with another real server.
    #[default]
    Move,
    /// They end: the client gets a RST. UDP sessions go on with another real server.
    Reset,
}

/// A client's sessions stay on one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sticky {
    /// For how long a client is remembered: 1 s to 48 h.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// IPv4 clients whose addresses agree in so many bits, 1 to 32, are one.
    pub prefix_v4: u8,
    /// As `prefix_v4` for IPv6, 1 to 128.
    pub prefix_v6: u8,
}

/// How real servers are checked. All checks of a server must pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// From one check to the next of its kind: 100 ms to 1 h.
    #[serde(serialize_with = "duration::serialize")]
    pub interval: Duration,
    /// A check without an answer for so long has failed; not longer than `interval`.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// So many checks in a row must pass until a server that is down is up: 1 to 100.
    pub rise: u32,
    /// So many checks in a row must fail until a server that is up is down: 1 to 100.
    pub fall: u32,
    /// Each once. None: what answers ARP or neighbour solicitations is up.
    pub checks: Vec<HealthCheck>,
}
