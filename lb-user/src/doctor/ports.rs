//! The ports of health checks by the data path, which should be nobody else's.

use std::ops::RangeInclusive;

use lb_common::health::PORTS;

use super::{Finding, host::setting};
use crate::config::Config;

const SETTING: &str = "net.ipv4.ip_local_port_range";

/// Those that this host's connections come from, if it tells.
pub fn local_ports() -> Option<RangeInclusive<u16>> {
    range(&setting::<String>("net/ipv4/ip_local_port_range")?)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split_whitespace().map(str::parse);
    Some(ports.next()?.ok()?..=ports.next()?.ok()?)
}

/// Whether they overlap.
pub fn findings(config: &Config, local: Option<RangeInclusive<u16>>) -> Vec<Finding> {
    let Some(local) = local.filter(|_| config.has_checks_by_data_path()) else {
        return Vec::new();
    };
    if local.start() > PORTS.end() || local.end() < PORTS.start() {
        return Vec::new();
    }
    let (first, last) = (local.start(), local.end());
    let (from, to) = (PORTS.start(), PORTS.end());
    let mut message = format!(
        "{first} to {last} overlaps the ports of health checks, {from} to {to}, so answers to this host's own connections to VIPs may get lost"
    );
    if first < from {
        message += &format!(": sysctl -w {SETTING}='{first} {}'", from - 1);
    } else {
        message += ": let it end below";
    }
    vec![Finding::warning(SETTING, message)]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::finding::tests::config;

    #[rstest]
    #[case::of_linux("32768\t60999", None)]
    #[case::up_to_the_end(
        "32768\t65535",
        Some("sysctl -w net.ipv4.ip_local_port_range='32768 60999'")
    )]
    #[case::inside("62000\t63000", Some("let it end below"))]
    #[case::unknown("", None)]
    fn an_overlap_is_found(#[case] local: &str, #[case] advice: Option<&str>) {
        let checked = config("[icmp]");
        let findings_of = |config| findings(config, range(local));
        let messages = findings_of(&checked).into_iter().map(|it| it.message);
        let messages: Vec<_> = messages.collect();
        assert_eq!(messages.len(), usize::from(advice.is_some()));
        assert!(messages.iter().all(|it| it.ends_with(advice.unwrap())));
        assert_eq!(findings_of(&config("[icmp: {via: real}]")), []);
    }
}
