//! Addresses of this host, as RTM_NEWADDR describes them.

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

/// What identifies an address: an interface may have one several times, with different prefix
/// lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InterfaceAddress {
    pub(super) ifindex: u32,
    pub(super) address: IpNet,
}

/// Reads a message about an address; `None` if it is neither IPv4 nor IPv6.
pub(super) fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    // IFA_ADDRESS is the peer's where there is an IFA_LOCAL (linux/if_addr.h).
    let local = message.attributes.iter().find_map(|it| match it {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = || {
        message.attributes.iter().find_map(|it| match it {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    };
    Some(InterfaceAddress {
        ifindex: message.header.index,
        address: IpNet::new(local.or_else(address)?, message.header.prefix_len).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_address_of_a_point_to_point_link_is_not_ours() {
        let mut message = AddressMessage::default();
        message.header.index = 7;
        message.header.prefix_len = 32;
        message.attributes = vec![
            AddressAttribute::Address("10.9.0.2".parse().unwrap()),
            AddressAttribute::Local("10.9.0.1".parse().unwrap()),
        ];
        let expected = InterfaceAddress {
            ifindex: 7,
            address: "10.9.0.1/32".parse().unwrap(),
        };
        assert_eq!(address(&message), Some(expected));
    }
}
