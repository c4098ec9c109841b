//! Addresses that a VIP or a real server can have.

use std::net::IpAddr;

use super::value::{FromValue, Value};

/// A unicast address that packets on the wire can carry to another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress(pub IpAddr);

impl FromValue for HostAddress {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "an IPv4 or IPv6 address";
        let text = value.text(EXPECTED)?;
        let address: IpAddr = text.parse().map_err(|_| value.expected(EXPECTED))?;
        match unusable(address) {
            None => Ok(Self(address)),
            Some(reason) => Err(format!("{address} {reason}")),
        }
    }
}

/// Why no packet to another machine can have this destination.
fn unusable(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("is the unspecified address: name one address")
    } else if address.is_loopback() {
        Some("is a loopback address, which never leaves its machine")
    } else if address.is_multicast() {
        Some("is a multicast address: expected a unicast address")
    } else {
        match address {
            IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
            IpAddr::V4(v4) if v4.is_link_local() => Some("is link-local, which isn't routed"),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                Some("is link-local, which isn't routed")
            }
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                Some("is an IPv4-mapped address: write it as IPv4")
            }
            _ => None,
        }
    }
}
