//! What the rest of the daemon sees of the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use thiserror::Error;

/// The network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How to reach each target, or why it can't be reached.
    pub next_hops: BTreeMap<IpAddr, Result<NextHop, Unreachable>>,
    /// All interfaces of this network namespace, by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// The addresses of all of them, with the indexes of those that have each.
    pub addresses: BTreeMap<IpAddr, BTreeSet<u32>>,
}

/// Where a packet to one target goes: everything needed to write its Ethernet header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The way there.
    pub way: Way,
    /// The MAC address of the gateway, or of the target itself if it is on the link.
    pub mac: [u8; 6],
}

/// The way to a target, as routes and interfaces tell it, whether or not its neighbour answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface that the packet leaves by.
    pub interface: String,
    /// That interface's index.
    pub ifindex: u32,
    /// That interface's own MAC address.
    pub source_mac: [u8; 6],
    /// The address of this host that the kernel prefers towards the target.
    pub source_address: Option<IpAddr>,
    /// The router in between; `None` if the target is on the link. It may be an IPv6 address for an
    /// IPv4 target (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// The largest IP packet in bytes: the route's MTU, never more than the interface's, nor than what a router
    /// told of late about encapsulated packets.
    pub mtu: u32,
}

/// Why a target has no [`NextHop`], as an operator would say it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unreachable {
    /// No route matches.
    #[error("no route to {to}")]
    NoRoute {
        /// The target.
        to: IpAddr,
    },
    /// The route that matches refuses: blackhole, prohibit or unreachable.
    #[error("a blackhole, prohibit or unreachable route covers {to}")]
    Forbidden {
        /// The target.
        to: IpAddr,
    },
    /// The target is this host.
    #[error("{to} is an address of this host")]
    Local {
        /// The target.
        to: IpAddr,
    },
    /// The interface is set down or has no carrier.
    #[error("interface {interface} is down")]
    InterfaceDown {
        /// The interface that the route names.
        interface: String,
    },
    /// The interface has no Ethernet header (a tunnel, for example).
    #[error("interface {interface} is not Ethernet")]
    NotEthernet {
        /// The interface that the route names.
        interface: String,
    },
    /// The neighbour was asked for its MAC address and the answer may still come.
    #[error("waiting for an answer to {} for {neighbour} on {}", asking(.neighbour), .way.interface)]
    Resolving {
        /// The target, or the gateway to it.
        neighbour: IpAddr,
        /// The way that it is on.
        way: Way,
    },
    /// The neighbour was asked for its MAC address and did not answer.
    #[error("no answer to {} for {neighbour} on {}", asking(.neighbour), .way.interface)]
    NoAnswer {
        /// The target, or the gateway to it.
        neighbour: IpAddr,
        /// The way that it is on.
        way: Way,
    },
    /// The kernel has no room for another neighbour.
    #[error(
        "the kernel's neighbour table is full, so {neighbour} can't be resolved: raise net.{}.neigh.default.gc_thresh3",
        if .neighbour.is_ipv4() { "ipv4" } else { "ipv6" }
    )]
    NeighbourTableFull {
        /// The target, or the gateway to it.
        neighbour: IpAddr,
        /// The way that it is on.
        way: Way,
    },
}

impl Unreachable {
    /// The way to the target, if only the MAC address on it is missing.
    pub const fn way(&self) -> Option<&Way> {
        match self {
            Self::Resolving { way, .. }
            | Self::NoAnswer { way, .. }
            | Self::NeighbourTableFull { way, .. } => Some(way),
            _ => None,
        }
    }
}

/// How the MAC address of a neighbour is asked for: RFC 826, RFC 4861.
fn asking(neighbour: &IpAddr) -> &'static str {
    match neighbour {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour solicitation",
    }
}

/// An interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index; a new one each time the interface is created.
    pub ifindex: u32,
    /// Its MAC address; `None` if it is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet in bytes.
    pub mtu: u32,
    /// Set up and able to pass packets (operational state of RFC 2863: there is carrier).
    pub up: bool,
    /// What kind of virtual device it is, in the words of `ip link` (`veth`, `vlan`, `bond`);
    /// `None` for a physical one.
    pub kind: Option<String>,
    /// The XDP program that is attached.
    pub xdp: Option<AttachedProgram>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// Its id.
    pub id: u32,
    /// Attached in generic mode, not in native mode.
    pub generic: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_like_an_operator_would_say_them() {
        let way = || Way {
            interface: "eth0".to_owned(),
            ifindex: 2,
            source_mac: [2, 0, 0, 0, 0, 1],
            source_address: None,
            gateway: None,
            mtu: 1500,
        };
        let v4: IpAddr = "10.9.0.11".parse().unwrap();
        let v6: IpAddr = "2001:db8::11".parse().unwrap();
        for (reason, words) in [
            (
                Unreachable::NoAnswer {
                    neighbour: v4,
                    way: way(),
                },
                "no answer to ARP for 10.9.0.11 on eth0",
            ),
            (
                Unreachable::Resolving {
                    neighbour: v6,
                    way: way(),
                },
                "waiting for an answer to neighbour solicitation for 2001:db8::11 on eth0",
            ),
            (
                Unreachable::NeighbourTableFull {
                    neighbour: v6,
                    way: way(),
                },
                "the kernel's neighbour table is full, so 2001:db8::11 can't be resolved: raise net.ipv6.neigh.default.gc_thresh3",
            ),
        ] {
            assert_eq!(reason.to_string(), words);
        }
    }
}
