//! What the maps should say: the configuration, joined with what is known of the network.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use lb_common::real_server::{LEAST_MTU_V4, LEAST_MTU_V6, MOST_MTU, OUTER_V4, OUTER_V6};
use strum::Display;

use crate::{
    config::{
        Config, Forward, MacAddress, Ports, Predictor, Protocol, RealServer, Session, Sticky,
        Tunnel,
    },
    health,
    net::{Unreachable, View, Way},
};

/// The wanted state of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By name.
    pub virtual_servers: BTreeMap<String, Arc<VirtualServer>>,
}

impl Desired {
    /// Takes the virtual servers that are as they were from `before`. To find that they are the same costs nothing then.
    pub fn share(&mut self, before: &Self) {
        for (name, virtual_server) in &mut self.virtual_servers {
            if let Some(same) = before.virtual_servers.get(name)
                && same == virtual_server
            {
                *virtual_server = Arc::clone(same);
            }
        }
    }
}

/// A virtual server and all that its packets need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// The VIP.
    pub vip: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: Ports,
    /// How packets reach the real servers.
    pub forward: Forward,
    /// How a real server is chosen.
    pub predictor: Predictor,
    /// What it remembers of its sessions.
    pub session: Session,
    /// Whether clients stay on their real server across sessions.
    pub sticky: Option<Sticky>,
    /// How long a real server that comes up takes to get its full share.
    pub slow_start: Option<Duration>,
    /// Fewer real servers up than this, and none gets new sessions.
    pub minimum_up: u32,
    /// The bound real servers and the sorry server, by name.
    pub members: BTreeMap<String, Member>,
    /// Whether there may be sessions of it in the table.
    pub has_sessions: bool,
    /// The member that takes new sessions while too few of the others do. It is up then, and else it drains.
    pub sorry: Option<String>,
}

impl VirtualServer {
    /// Whether a member is the sorry server.
    pub fn is_sorry(&self, member: &str) -> bool {
        self.sorry.as_deref() == Some(member)
    }

    /// The members that take new sessions: if fewer than `minimum_up` of those that are bound could, the sorry server alone.
    pub fn serving(&self) -> impl Iterator<Item = (&str, &Member)> {
        let enough = self.state() == State::Up;
        self.up()
            .filter(move |(name, _)| self.is_sorry(name) != enough)
    }

    /// Up while bound members take new sessions.
    pub fn state(&self) -> State {
        let bound = self.up().filter(|(name, _)| !self.is_sorry(name));
        if bound.count() >= self.minimum_up as usize {
            State::Up
        } else {
            State::Down
        }
    }

    fn up(&self) -> impl Iterator<Item = (&str, &Member)> {
        let members = self.members.iter();
        members
            .filter(|(_, member)| member.state() == State::Up)
            .map(|(name, member)| (name.as_str(), member))
    }
}

/// A real server bound to a virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: IpAddr,
    /// Its weight in this virtual server.
    pub weight: u16,
    /// What the predictor takes for its weight now.
    pub share: u16,
    /// It gets no new sessions.
    pub drain: bool,
    /// How to reach it, or why it can't be used: it can't be reached, or its health checks fail.
    pub link: Result<Link, String>,
}

impl Member {
    /// Whether it takes new sessions.
    pub const fn state(&self) -> State {
        match self.link {
            Err(_) => State::Down,
            Ok(_) if self.drain => State::Draining,
            Ok(_) => State::Up,
        }
    }
}

/// The state of a virtual server or of a bound real server, as `lb status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// It takes new sessions.
    Up,
    /// It can't be used.
    Down,
    /// It takes no new sessions, by the operator's wish.
    Draining,
}

/// How frames reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The interface they leave by.
    pub ifindex: u32,
    /// That interface's MAC address.
    pub source_mac: [u8; 6],
    /// The MAC address of the server, or of the router in between.
    pub destination_mac: [u8; 6],
    /// The largest IP packet in bytes.
    pub mtu: u32,
    /// For L3 DSR: where the source addresses of outer headers come from.
    pub outer_source: Option<IpNet>,
}

impl Link {
    /// Bytes of the outer header.
    pub const fn outer_header(&self) -> u32 {
        match self.outer_source {
            None => 0,
            Some(IpNet::V4(_)) => OUTER_V4,
            Some(IpNet::V6(_)) => OUTER_V6,
        }
    }

    /// The largest IP packet of a client, in bytes, that fits inside what headers there are.
    pub const fn room(&self) -> u32 {
        self.mtu - self.outer_header()
    }
}

/// How each address was last reached, by each way to forward.
pub type LastKnownLinks = HashMap<(IpAddr, Forward), Link>;

/// A real server that isn't bound any more, and may have sessions left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbound {
    /// The virtual server's name.
    pub virtual_server: String,
    /// The real server's name.
    pub server: String,
    /// The real server's address.
    pub address: IpAddr,
}

/// Joins the configuration with the network. While a server's MAC address is being asked for, `last_known`
/// says how its address was reached before. Real servers that are `unbound` keep their sessions, if there are any.
/// Those that `health` doesn't know to be up are down, if they are checked.
pub fn desired(
    config: &Config,
    network: &View,
    last_known: &LastKnownLinks,
    unbound: &[Unbound],
    health: &health::States,
) -> Desired {
    let mut left_of = foldhash::HashMap::<&str, Vec<&Unbound>>::default();
    for unbound in unbound {
        let left = left_of.entry(&unbound.virtual_server).or_default();
        left.push(unbound);
    }
    // Most real servers are bound to many virtual servers.
    let mut links = foldhash::HashMap::default();
    let virtual_servers = config.virtual_servers.iter().map(|virtual_server| {
        let (vip, forward) = (virtual_server.vip, virtual_server.forward);
        let any_link = |server: &RealServer| {
            let last_known = last_known.get(&(server.address, forward));
            any_link(config, forward, server, network, last_known)
        };
        let link = |server: &RealServer, any: Result<Link, String>| {
            any.and_then(|link| with_room(link, vip, server.address))
        };
        let member = |name: &str, server: &RealServer, any, weight, drain| Member {
            address: server.address,
            weight,
            share: weight,
            drain,
            link: link(server, any).and_then(|link| {
                health.of(name, server.address, virtual_server)?;
                Ok(link)
            }),
        };
        let bound = virtual_server.bind.iter().map(|binding| {
            let name = binding.server.as_str();
            let (server, any) = links.entry((name, forward)).or_insert_with(|| {
                let server = &config.real_servers[name];
                (server, any_link(server))
            });
            let member = member(name, server, any.clone(), binding.weight, binding.drain);
            (binding.server.clone(), member)
        });
        let left = left_of
            .get(virtual_server.name.as_str())
            .into_iter()
            .flatten();
        let left = left.map(|unbound| {
            let server = real_server(config, &unbound.server, unbound.address);
            let member = member(&unbound.server, &server, any_link(&server), 0, true);
            (unbound.server.clone(), member)
        });
        let mut wanted = VirtualServer {
            vip: virtual_server.vip,
            protocol: virtual_server.protocol,
            ports: virtual_server.ports.clone(),
            forward: virtual_server.forward,
            predictor: virtual_server.predictor,
            session: virtual_server.session,
            sticky: virtual_server.sticky,
            slow_start: virtual_server.slow_start,
            minimum_up: virtual_server.minimum_up,
            members: left.chain(bound).collect(),
            has_sessions: true,
            sorry: virtual_server.sorry.clone(),
        };
        if let Some(name) = &virtual_server.sorry {
            let server = &config.real_servers[name];
            let weight = server.weight.max(1);
            let sorry = Member {
                address: server.address,
                weight,
                share: weight,
                drain: wanted.state() == State::Up,
                link: link(server, any_link(server)),
            };
            wanted.members.insert(name.clone(), sorry);
        }
        (virtual_server.name.clone(), Arc::new(wanted))
    });
    Desired {
        virtual_servers: virtual_servers.collect(),
    }
}

/// The real server with this name and address, which may not be in the configuration any more. It has no weight.
pub fn real_server(config: &Config, name: &str, address: IpAddr) -> RealServer {
    let known = config.real_servers.get(name);
    // Its name may have been given to another machine.
    let known = known.filter(|server| server.address == address);
    RealServer {
        address,
        weight: 0,
        mac: known.and_then(|server| server.mac),
    }
}

/// How packets for a VIP reach a real server.
///
/// # Errors
/// Why they don't, as a person would say it.
pub fn link(
    config: &Config,
    vip: IpAddr,
    forward: Forward,
    server: &RealServer,
    network: &View,
    last_known: Option<&Link>,
) -> Result<Link, String> {
    let link = any_link(config, forward, server, network, last_known)?;
    with_room(link, vip, server.address)
}

/// The link to a real server, whatever there is room for.
fn any_link(
    config: &Config,
    forward: Forward,
    server: &RealServer,
    network: &View,
    last_known: Option<&Link>,
) -> Result<Link, String> {
    let (way, mac) = match network.next_hops.get(&server.address) {
        Some(Ok(next_hop)) => (&next_hop.way, Ok(next_hop.mac)),
        Some(Err(reason)) => (reason.way().ok_or_else(|| reason.to_string())?, Err(reason)),
        None => {
            return last_known
                .copied()
                .ok_or_else(|| format!("looking up the way to {}", server.address));
        }
    };
    takes_frames(config, network, &way.interface)?;
    let outer_source = match (forward, way.gateway) {
        (Forward::L2dsr, None) => None,
        (Forward::L2dsr, Some(gateway)) => {
            return Err(format!(
                "{} is behind the router {gateway}: l2dsr needs a directly connected server (l3dsr does not)",
                server.address
            ));
        }
        (Forward::L3dsr, _) => Some(outer_source(&config.tunnel, server.address, way)?),
    };
    let fixed = server.mac.filter(|_| way.gateway.is_none());
    match (fixed.map(MacAddress::octets), mac, last_known) {
        (Some(mac), _, _) | (None, Ok(mac), _) => Ok(Link {
            ifindex: way.ifindex,
            source_mac: way.source_mac,
            destination_mac: mac,
            mtu: match outer_source {
                Some(_) => way.mtu.min(MOST_MTU),
                None => way.mtu,
            },
            outer_source,
        }),
        (None, Err(Unreachable::Resolving { .. }), Some(last_known)) => Ok(*last_known),
        (None, Err(reason), _) => Err(reason.to_string()),
    }
}

/// Whether frames can be redirected to an interface: devices without a driver of their own have no
/// `ndo_xdp_xmit`, and the kernel drops what is redirected to them.
fn takes_frames(config: &Config, network: &View, interface: &str) -> Result<(), String> {
    const WITHOUT_XDP: [&str; 5] = ["bridge", "ipvlan", "macvlan", "vlan", "vxlan"];

    // Frames that came in by it go out as they came.
    let configured = config.interfaces.iter().any(|it| it.name == interface);
    let kind = network
        .interfaces
        .get(interface)
        .and_then(|known| known.kind.as_deref());
    match kind {
        Some(kind) if !configured && WITHOUT_XDP.contains(&kind) => Err(format!(
            "the way leads out of {interface}, and a {kind} device takes no frames from XDP"
        )),
        _ => Ok(()),
    }
}

/// Where the source addresses of outer headers to a server come from.
fn outer_source(tunnel: &Tunnel, server: IpAddr, way: &Way) -> Result<IpNet, String> {
    let configured = match server {
        IpAddr::V4(_) => tunnel.source_v4.map(IpNet::V4),
        IpAddr::V6(_) => tunnel.source_v6.map(IpNet::V6),
    };
    configured
        .or(way.source_address.map(IpNet::from))
        .ok_or_else(|| format!("this host has no address to send from to {server}"))
}

/// A link whose MTU leaves packets of the VIP as long as they must be able to be.
fn with_room(link: Link, vip: IpAddr, server: IpAddr) -> Result<Link, String> {
    let inner = match vip {
        IpAddr::V4(_) => LEAST_MTU_V4,
        IpAddr::V6(_) => LEAST_MTU_V6,
    };
    let least = inner + link.outer_header();
    if link.mtu < least {
        return Err(format!(
            "the MTU towards {server} is {}: VIP {vip} needs {least} or more",
            link.mtu
        ));
    }
    Ok(link)
}

#[cfg(test)]
mod tests;
