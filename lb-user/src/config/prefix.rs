//! Prefixes of addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::value::{FromValue, Value};

/// A prefix whose host bits, 24 in IPv4 and 32 in IPv6 at most, the flows of L3 DSR are spread over. An
/// address alone is a prefix of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePrefix<N>(pub N);

impl FromValue for SourcePrefix<Ipv4Net> {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "an IPv4 prefix of 8 bits or more such as 10.200.0.0/16";
        match network(value, EXPECTED)? {
            IpNet::V4(prefix) if prefix.prefix_len() >= 8 => Ok(Self(prefix)),
            _ => Err(value.expected(EXPECTED)),
        }
    }
}

impl FromValue for SourcePrefix<Ipv6Net> {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "an IPv6 prefix of 96 bits or more such as 2001:db8:200::/96";
        match network(value, EXPECTED)? {
            IpNet::V6(prefix) if prefix.prefix_len() >= 96 => Ok(Self(prefix)),
            _ => Err(value.expected(EXPECTED)),
        }
    }
}

fn network(value: &Value, expected: &str) -> Result<IpNet, String> {
    prefix(value.text(expected)?, || value.expected(expected))
}

/// Reads a prefix, or an address as a prefix of one, with nothing behind the prefix.
///
/// # Errors
/// What is wrong with it; `not_one` if it is neither.
pub fn prefix(text: &str, not_one: impl FnOnce() -> String) -> Result<IpNet, String> {
    let network: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| not_one())?;
    if network != network.trunc() {
        return Err(format!(
            "{network} has bits set behind its prefix: write {}",
            network.trunc()
        ));
    }
    Ok(network)
}
