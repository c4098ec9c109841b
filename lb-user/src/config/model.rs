//! A validated configuration: what the rest of the daemon works from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;
use strum::{Display, EnumString, VariantNames};

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

/// Outer headers of L3 DSR.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// The source addresses to spread the flows over. `None`: the balancer's own address.
    pub source_v4: Option<Ipv4Net>,
    /// As `source_v4`, for real servers of IPv6; 96 bits or longer.
    pub source_v6: Option<Ipv6Net>,
}

/// How many entries the kernel's tables have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// 1 to 65535.
    pub virtual_servers: u32,
    /// 1 to 65535.
    pub real_servers: u32,
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
    pub ports: Ports,
    /// How packets reach the real server.
    pub forward: Forward,
    /// How a new session picks its real server.
    pub predictor: Predictor,
    /// In the order of the file, each real server once; may be empty.
    pub bind: Vec<Binding>,
    /// With fewer healthy servers than this the virtual server is down; at least 1.
    pub minimum_up: u32,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Display)]
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
}

impl From<Predictor> for lb_common::Predictor {
    fn from(predictor: Predictor) -> Self {
        match predictor {
            Predictor::Hash => Self::Hash,
        }
    }
}
