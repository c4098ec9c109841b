//! VIPs that this host has as addresses of its own.

use std::{collections::BTreeSet, net::IpAddr};

use super::Finding;
use crate::{config::Config, net::View};

/// A VIP is the balancer's to answer for, not the kernel's.
pub fn findings(config: &Config, network: &View) -> Vec<Finding> {
    let vips: BTreeSet<IpAddr> = config.virtual_servers.iter().map(|it| it.vip).collect();
    let local = vips.iter().filter_map(|vip| {
        let ifindexes = network.addresses.get(vip)?;
        let mut interfaces = network.interfaces.iter();
        let (name, _) = interfaces.find(|(_, it)| ifindexes.contains(&it.ifindex))?;
        Some(Finding::warning(
            &format!("VIP {vip}"),
            format!(
                "is an address of this host, which answers for it, too, and can't reach its real servers: ip addr del {vip}/{} dev {name}",
                if vip.is_ipv4() { 32 } else { 128 }
            ),
        ))
    });
    local.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::tests::config, net::Interface};

    #[test]
    fn a_vip_that_is_an_address_of_this_host_is_found() {
        let mut network = View::default();
        assert_eq!(findings(&config("[]"), &network), []);
        let lo = Interface {
            ifindex: 1,
            mac: None,
            mtu: 65_536,
            up: true,
            kind: None,
            xdp: None,
        };
        network.interfaces.insert("lo".to_owned(), lo);
        let vip = [10, 9, 1, 1].into();
        network.addresses.insert(vip, BTreeSet::from([1]));
        let findings = findings(&config("[]"), &network);
        let advice = "ip addr del 10.9.1.1/32 dev lo";
        assert!(findings[0].message.ends_with(advice), "{findings:?}");
    }
}
