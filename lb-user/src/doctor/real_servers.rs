//! The ways to the real servers.

use std::{collections::BTreeSet, net::IpAddr};

use super::Finding;
use crate::{
    config::Config,
    control::desired::{self, Link},
    net::{Interface, View},
};

/// Each binding's real server with the way of its packets, or why there is none.
fn links<'a>(
    config: &'a Config,
    network: &'a View,
) -> impl Iterator<Item = (&'a str, IpAddr, Result<Link, String>)> {
    config.virtual_servers.iter().flat_map(move |it| {
        let bound = it.bind.iter().map(|binding| &binding.server);
        bound.chain(&it.sorry).map(move |name| {
            let server = &config.real_servers[name];
            let link = desired::link(config, it.vip, it.forward, server, network, None);
            (name.as_str(), server.address, link)
        })
    })
}

/// Those that no packet reaches.
pub fn unreachable(config: &Config, network: &View) -> Vec<Finding> {
    let found: BTreeSet<Finding> = links(config, network)
        .filter_map(|(name, _, link)| {
            let reason = link.err()?;
            let message = format!("{reason}: it gets no packets until that is mended");
            Some(Finding::warning(name, message))
        })
        .collect();
    if found.is_empty() && !config.real_servers.is_empty() {
        return vec![Finding::ok("real servers", "all can be reached")];
    }
    found.into_iter().collect()
}

/// Those that the largest packets of clients don't reach, because the links are narrower or the outer header takes room; and those
/// that frames may not reach, because the balancer is not on the interface that leads there.
pub fn too_narrow(config: &Config, network: &View) -> Vec<Finding> {
    let interface = |name: &String| network.interfaces.get(name);
    let served = config.interfaces.iter().map(|it| &it.name);
    let served: Vec<_> = served.filter_map(interface).collect();
    let to_servers: BTreeSet<_> = links(config, network)
        .filter_map(|(_, _, link)| Some(link.ok()?.ifindex))
        .collect();
    // Where there is an interface for each side, that of the real servers has room to spare.
    let (inner, outer): (Vec<_>, Vec<_>) = served
        .iter()
        .partition(|interface| to_servers.contains(&interface.ifindex));
    let side: Vec<&&Interface> = if outer.is_empty() { inner } else { outer };
    let clients = side.iter().map(|it| it.mtu).max().unwrap_or_default();
    let name_of = |ifindex| {
        let mut interfaces = network.interfaces.iter();
        interfaces.find_map(|(name, it)| (it.ifindex == ifindex).then_some(name))
    };
    let mut narrow = BTreeSet::new();
    let mut other = BTreeSet::new();
    for (server, _, link) in links(config, network) {
        let Ok(link) = link else {
            continue;
        };
        let room = link.room();
        if room < clients {
            narrow.insert((link.mtu, room, server));
        }
        if let Some(name) = name_of(link.ifindex)
            && served.iter().all(|it| it.ifindex != link.ifindex)
        {
            other.insert(name);
        }
    }
    let mut findings = Vec::new();
    for servers in Vec::from_iter(narrow).chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (mtu, room, first) = servers[0];
        let others = match servers.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let raised = clients + mtu - room;
        findings.push(Finding::warning(
            "MTU",
            format!(
                "packets of clients have up to {clients} bytes, and {room} fit on the way to {first}{others}: raise its MTU of {mtu} to {raised}, or let the servers announce a smaller MSS"
            ),
        ));
    }
    let other = other.into_iter().map(|name| {
        let message = "leads to real servers and is not listed: many drivers transmit no redirected frames without a program: add it to `interfaces`";
        Finding::warning(name, message)
    });
    findings.extend(other);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::finding::tests::config,
        net::{NextHop, Unreachable, Way},
    };

    /// A network in which `a` is reached over an interface with this index and a way of this MTU.
    fn network(ifindex: u32, mtu: u32) -> View {
        let interface = |ifindex| Interface {
            ifindex,
            mac: Some([2; 6]),
            mtu: 1500,
            up: true,
            kind: None,
            xdp: None,
        };
        let way = Way {
            interface: format!("eth{ifindex}"),
            ifindex,
            source_mac: [2; 6],
            source_address: Some([10, 9, 0, 1].into()),
            gateway: None,
            mtu,
        };
        let next_hop = NextHop { way, mac: [3; 6] };
        let interfaces = [0, 1].map(|index| (format!("eth{index}"), interface(index)));
        View {
            next_hops: [([10, 9, 0, 11].into(), Ok(next_hop))].into(),
            interfaces: interfaces.into(),
            ..View::default()
        }
    }

    fn messages(findings: Vec<Finding>) -> Vec<String> {
        let messages = findings.into_iter().map(|it| it.to_string());
        messages.collect()
    }

    #[test]
    fn a_server_that_can_be_reached_is_well() {
        let (config, network) = (config("[]"), network(0, 1500));
        let found = messages(unreachable(&config, &network));
        assert_eq!(found, ["ok       real servers: all can be reached"]);
        assert_eq!(too_narrow(&config, &network), []);
    }

    #[test]
    fn a_server_without_a_way_is_found_with_the_reason() {
        let mut network = network(0, 1500);
        let to = [10, 9, 0, 11].into();
        let reason = Unreachable::NoRoute { to };
        network.next_hops.insert(to, Err(reason));
        let found = messages(unreachable(&config("[]"), &network));
        let expected = "warning  a: no route to 10.9.0.11: it gets no packets until that is mended";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_way_without_room_for_the_outer_header_is_found() {
        let mut config = config("[]");
        config.virtual_servers[0].forward = crate::config::Forward::L3dsr;
        let found = messages(too_narrow(&config, &network(0, 1500)));
        let words = "up to 1500 bytes, and 1480 fit on the way to a: raise its MTU of 1500 to 1520";
        assert!(found[0].contains(words), "{found:?}");
        assert_eq!(too_narrow(&config, &network(0, 1520)), []);
    }

    #[test]
    fn links_to_real_servers_may_have_room_to_spare() {
        let mut config = config("[]");
        config.virtual_servers[0].forward = crate::config::Forward::L3dsr;
        let second = crate::config::Interface {
            name: "eth1".to_owned(),
            ..config.interfaces[0].clone()
        };
        config.interfaces.push(second);
        let mut network = network(1, 1540);
        network.interfaces.get_mut("eth1").unwrap().mtu = 1540;
        assert_eq!(too_narrow(&config, &network), []);
    }

    #[test]
    fn an_interface_that_leads_to_servers_and_is_not_listed_is_found() {
        let found = messages(too_narrow(&config("[]"), &network(1, 1500)));
        assert!(found[0].starts_with("warning  eth1: "), "{found:?}");
    }
}
