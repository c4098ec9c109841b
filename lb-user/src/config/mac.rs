//! Ethernet addresses of real servers.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::value::{FromValue, Value};

/// The Ethernet address of one machine: neither zero nor a group address (IEEE 802, 8.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress([u8; 6]);

/// What is wrong with a [`MacAddress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MacAddressError {
    /// The text isn't six pairs of hexadecimal digits with colons.
    #[error("expected a MAC address such as \"02:00:00:00:00:13\"")]
    Syntax,
    /// 00:00:00:00:00:00.
    #[error("the zero MAC address belongs to no machine")]
    Zero,
    /// The lowest bit of the first byte is set; this includes broadcast.
    #[error("a multicast or broadcast MAC address belongs to no single machine")]
    Multicast,
}

impl MacAddress {
    /// The six bytes in the order of the wire.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<[u8; 6]> for MacAddress {
    type Error = MacAddressError;

    fn try_from(octets: [u8; 6]) -> Result<Self, Self::Error> {
        if octets == [0; 6] {
            Err(MacAddressError::Zero)
        } else if octets[0] & 1 == 1 {
            Err(MacAddressError::Multicast)
        } else {
            Ok(Self(octets))
        }
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            *octet = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or(MacAddressError::Syntax)?;
        }
        match parts.next() {
            None => Self::try_from(octets),
            Some(_) => Err(MacAddressError::Syntax),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromValue for MacAddress {
    fn from_value(value: &Value) -> Result<Self, String> {
        let result = match value {
            Value::Text(text) => text.parse(),
            _ => Err(MacAddressError::Syntax),
        };
        result.map_err(|error| format!("{error}, found {value}"))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("02:00:00:00:00:13")]
    #[case("fe:ff:ff:ff:ff:ff")]
    fn a_unicast_address_reads_back_as_written(#[case] text: &str) {
        assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case::short("02:00:00:00:00", MacAddressError::Syntax)]
    #[case::long("02:00:00:00:00:13:14", MacAddressError::Syntax)]
    #[case::one_digit("2:0:0:0:0:13", MacAddressError::Syntax)]
    #[case::sign("+2:00:00:00:00:13", MacAddressError::Syntax)]
    #[case::dashes("02-00-00-00-00-13", MacAddressError::Syntax)]
    #[case::zero("00:00:00:00:00:00", MacAddressError::Zero)]
    #[case::broadcast("ff:ff:ff:ff:ff:ff", MacAddressError::Multicast)]
    #[case::multicast("33:33:00:00:00:01", MacAddressError::Multicast)]
    fn other_text_is_refused(#[case] text: &str, #[case] error: MacAddressError) {
        assert_eq!(text.parse::<MacAddress>(), Err(error));
    }
}
