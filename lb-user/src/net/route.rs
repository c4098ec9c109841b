//! The kernel's answer to "how would a packet to this address go?" (RTM_GETROUTE).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use nix::errno::Errno;

use super::neighbour::NeighbourKey;
use super::view::Unreachable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) ifindex: u32,
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
}

impl Route {
    /// The neighbour that a packet to `to` is handed to.
    pub(super) fn neighbour(&self, to: IpAddr) -> NeighbourKey {
        NeighbourKey {
            ifindex: self.ifindex,
            address: self.gateway.unwrap_or(to),
        }
    }
}

/// Reads the kernel's reply to a lookup of `to`. The error codes are those of `fib_props` (IPv4,
/// net/ipv4/fib_semantics.c) and `fib6_prop` (IPv6, net/ipv6/route.c).
pub(super) fn route(to: IpAddr, reply: Result<RouteMessage, Errno>) -> Result<Route, Unreachable> {
    let message = reply.map_err(|error| match error {
        Errno::EINVAL | Errno::EACCES | Errno::EHOSTUNREACH => Unreachable::Forbidden { to },
        _ => Unreachable::NoRoute { to },
    })?;
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Anycast => return Err(Unreachable::Local { to }),
        _ => return Err(Unreachable::NoRoute { to }),
    }

    let mut ifindex = None;
    let mut gateway = None;
    let mut source = None;
    let mut mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(it) => ifindex = Some(*it),
            RouteAttribute::Gateway(it) => gateway = address(it),
            RouteAttribute::Via(RouteVia::Inet(it)) => gateway = Some((*it).into()),
            RouteAttribute::Via(RouteVia::Inet6(it)) => gateway = Some((*it).into()),
            RouteAttribute::PrefSource(it) => source = address(it),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let ifindex = ifindex.ok_or(Unreachable::NoRoute { to })?;
    Ok(Route {
        ifindex,
        gateway,
        source,
        mtu,
    })
}

/// The destinations that a route covers; `None` if it is neither IPv4 nor IPv6.
pub(super) fn destinations(message: &RouteMessage) -> Option<IpNet> {
    let any = any_address(message.header.address_family)?;
    let destination = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(it) => address(it),
            _ => None,
        });
    let length = message.header.destination_prefix_length;
    IpNet::new(destination.unwrap_or(any), length).ok()
}

/// The unspecified address of a family; `None` if it is neither IPv4 nor IPv6.
fn any_address(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AddressFamily::Inet6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(it) => Some((*it).into()),
        RouteAddress::Inet6(it) => Some((*it).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn reply(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_gateway_and_a_metric_without_mtu() {
        let reply = reply(
            RouteType::Unicast,
            vec![
                RouteAttribute::Oif(7),
                RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())),
                RouteAttribute::PrefSource(RouteAddress::Inet("10.9.0.1".parse().unwrap())),
                RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(9), RouteMetric::Mtu(0)]),
            ],
        );
        assert_eq!(
            route(ip("10.9.0.11"), Ok(reply)),
            Ok(Route {
                ifindex: 7,
                gateway: Some(ip("fe80::1")),
                source: Some(ip("10.9.0.1")),
                mtu: None
            })
        );
    }

    #[rstest]
    #[case::nothing_matches(Errno::ENETUNREACH, Unreachable::NoRoute { to: ip("10.9.0.11") })]
    #[case::blackhole(Errno::EINVAL, Unreachable::Forbidden { to: ip("10.9.0.11") })]
    #[case::prohibit(Errno::EACCES, Unreachable::Forbidden { to: ip("10.9.0.11") })]
    #[case::unreachable(Errno::EHOSTUNREACH, Unreachable::Forbidden { to: ip("10.9.0.11") })]
    fn a_refused_lookup_says_why(#[case] error: Errno, #[case] reason: Unreachable) {
        assert_eq!(route(ip("10.9.0.11"), Err(error)), Err(reason));
    }

    #[test]
    fn a_default_route_covers_its_whole_family() {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        assert_eq!(destinations(&message), Some("::/0".parse().unwrap()));
    }
}
