//! Names and record types of DNS.

use super::value::{FromValue, Value};

/// A domain name (RFC 1035 section 2.3.4), in letters, digits, `-` and `_`, with or without the dot at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsName(pub String);

impl DnsName {
    /// `None` if the text is none.
    pub fn new(text: &str) -> Option<Self> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let relative = text.strip_suffix('.').unwrap_or(text);
        let is_name = relative.len() <= 253 && relative.split('.').all(is_label);
        (is_name || text == ".").then(|| Self(text.to_owned()))
    }

    /// Whether it names a host: an IPv4 address does not, and neither does the root.
    pub fn is_host(&self) -> bool {
        let last = self.0.rsplit('.').next().unwrap_or_default();
        last.contains(|char: char| !char.is_ascii_digit())
    }
}

impl FromValue for DnsName {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "a DNS name such as example.com";
        Self::new(value.text(EXPECTED)?).ok_or_else(|| value.expected(EXPECTED))
    }
}

/// A type of record that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RecordType(pub &'static str);

impl RecordType {
    const ALL: [&str; 10] = [
        "A", "AAAA", "NS", "MX", "SOA", "TXT", "SRV", "PTR", "CNAME", "CAA",
    ];
}

impl Default for RecordType {
    fn default() -> Self {
        Self("A")
    }
}

impl FromValue for RecordType {
    fn from_value(value: &Value) -> Result<Self, String> {
        let expected = Self::ALL.join(" | ");
        let text = value.text(&expected)?;
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.eq_ignore_ascii_case(text))
            .map(Self)
            .ok_or_else(|| value.expected(&expected))
    }
}
