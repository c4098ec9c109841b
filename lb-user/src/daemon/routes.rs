//! Which way each health check goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use super::steered::Steered;
use crate::{
    config::{Config, RealServer},
    control::desired::{self, LastKnownLinks, Unbound},
    health::{Check, Checks, Path, Route, Segment, Steering},
    net::{Unreachable, View, Way},
};

/// What the ways of checks depend on.
pub struct Surroundings<'a> {
    /// What is checked.
    pub config: &'a Config,
    /// Real servers that are checked as long as they have sessions.
    pub unbound: &'a [Unbound],
    /// The network now.
    pub network: &'a View,
    /// How real servers were reached last.
    pub last_known: &'a LastKnownLinks,
}

impl Surroundings<'_> {
    /// Whether a check's real server, or the router to it, doesn't answer ARP or neighbour solicitations.
    pub fn is_gone(&self, check: &Check) -> bool {
        let next_hop = self.network.next_hops.get(&check.address);
        matches!(next_hop, Some(Err(Unreachable::NoAnswer { .. })))
            && self.real_server(check).mac.is_none()
    }

    /// The way of a check that goes to a segment.
    pub fn segment(&self, check: &Check) -> Route {
        let Some(way) = self.way(check.address) else {
            return Route::Wait;
        };
        match way.gateway {
            None => Route::Segment(
                Segment {
                    ifindex: way.ifindex,
                    mac: way.source_mac,
                    source: way.source_address,
                },
                self.real_server(check).mac,
            ),
            Some(gateway) => Route::None(format!(
                "it is behind the router {gateway}, and an arp check needs a directly connected server"
            )),
        }
    }

    /// The way of a check by the data path.
    pub fn steering(&self, check: &Check, path: Path, steered: &mut Steered) -> Route {
        let server = self.real_server(check);
        let last_known = self.last_known.get(&(check.address, path.forward));
        let link = desired::link(
            self.config,
            path.vip,
            path.forward,
            &server,
            self.network,
            last_known,
        );
        let Ok(link) = link else {
            return Route::Wait;
        };
        let Some(source) = self.source(check.address, path.vip) else {
            let version = if path.vip.is_ipv4() { 4 } else { 6 };
            return Route::None(format!(
                "this host has no IPv{version} address that the answers could come to"
            ));
        };
        match steered.path(&(check.server.clone(), check.address, path.forward), &link) {
            Ok(mark) => Route::Steered(Steering {
                mark,
                source,
                mtu: link.room(),
            }),
            Err(error) => Route::None(error.to_string()),
        }
    }

    /// The interfaces that answers to steered checks may come to: those of the configuration, those that lead to real
    /// servers, and those that have the addresses that the checks come from.
    pub fn interfaces(&self, checks: &Checks) -> BTreeMap<String, u32> {
        let sources = checks.values().filter_map(|route| match route {
            Route::Steered(steering) => self.network.addresses.get(&steering.source),
            _ => None,
        });
        let sources: BTreeSet<u32> = sources.flatten().copied().collect();
        let servers = self.network.next_hops.keys();
        let towards: BTreeSet<u32> = servers
            .filter_map(|&server| Some(self.way(server)?.ifindex))
            .collect();
        let configured = self.config.interfaces.iter();
        let configured: BTreeSet<&str> = configured.map(|it| it.name.as_str()).collect();
        let all = self.network.interfaces.iter();
        all.filter(|(name, interface)| {
            let ifindex = interface.ifindex;
            configured.contains(name.as_str())
                || sources.contains(&ifindex)
                || towards.contains(&ifindex)
        })
        .map(|(name, interface)| (name.clone(), interface.ifindex))
        .collect()
    }

    fn way(&self, address: IpAddr) -> Option<&Way> {
        match self.network.next_hops.get(&address)? {
            Ok(next_hop) => Some(&next_hop.way),
            Err(unreachable) => unreachable.way(),
        }
    }

    fn real_server(&self, check: &Check) -> RealServer {
        desired::real_server(self.config, &check.server, check.address)
    }

    /// An address of this host that a real server can answer to from the VIP: that which the kernel prefers towards the
    /// server, or else one of the interface that leads there, or else any.
    fn source(&self, server: IpAddr, vip: IpAddr) -> Option<IpAddr> {
        let way = self.way(server);
        let same_version = |address: &IpAddr| address.is_ipv4() == vip.is_ipv4();
        let preferred = way.and_then(|way| way.source_address);
        let all = self.network.addresses.iter();
        let mut fitting = all.filter(|(address, _)| same_version(address) && is_global(**address));
        let mut on_the_way = fitting
            .clone()
            .filter(|(_, has)| way.is_some_and(|way| has.contains(&way.ifindex)));
        preferred
            .filter(same_version)
            .or_else(|| on_the_way.next().map(|(&address, _)| address))
            .or_else(|| fitting.next().map(|(&address, _)| address))
    }
}

/// Whether others than those on a segment can send to an address.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => address != Ipv6Addr::LOCALHOST && !address.is_unicast_link_local(),
    }
}
