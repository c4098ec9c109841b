//! The interfaces that packets for the VIPs come in by.

use super::{Finding, device::Device};
use crate::config::{Interface, XdpMode};

/// What fits one buffer of most drivers in native mode: a page of 4096 bytes less room in front (256), `skb_shared_info` (320), the
/// Ethernet header and two tags (22).
const ONE_BUFFER: u32 = 3498;

/// What the kernel calls offloads that merge packets on their way in, and what ethtool calls them.
const MERGING: [(&str, &str, &str); 2] = [
    ("rx-lro", "LRO", "lro"),
    ("rx-gro-hw", "GRO in hardware", "rx-gro-hw"),
];

/// How suitable an interface is; `None`: it does not exist.
pub fn findings(interface: &Interface, device: Option<&Device>) -> Vec<Finding> {
    let name = &interface.name;
    let Some(device) = device else {
        return vec![Finding::stops(
            name,
            "does not exist: correct `interfaces`, or create it first",
        )];
    };
    let mut findings = Vec::new();
    let mut warn = |message: String| findings.push(Finding::warning(name, message));
    let known = &device.interface;
    if !known.up {
        warn(format!("is down or has no carrier: ip link set {name} up"));
    }
    let is_native = device.xdp.is_none_or(|xdp| xdp.is_native());
    let is_generic_now = known.xdp.is_some_and(|xdp| xdp.generic);
    if is_native && is_generic_now {
        warn("runs in generic mode, which is slower than native mode, which its driver has: `lb stop`, and start with `xdp: native`".to_owned());
    } else if is_native && interface.xdp == XdpMode::Generic {
        warn("its driver has native mode, which is faster than `xdp: generic`".to_owned());
    }
    if !is_native && interface.xdp == XdpMode::Auto {
        warn("its driver has no native XDP, and generic mode is slower: use another NIC or driver for high rates".to_owned());
    }
    let runs_native = is_native && interface.xdp != XdpMode::Generic;
    if let Some(xdp) = device.xdp.filter(|_| runs_native) {
        if !xdp.redirects() {
            warn("its driver can't redirect packets: only real servers on this interface get any; others need `xdp: generic`".to_owned());
        }
        if known.mtu > ONE_BUFFER && !xdp.takes_several_buffers() {
            warn(format!(
                "an MTU of {} is too large for native XDP in its driver, which takes packets in one buffer alone: ip link set {name} mtu {ONE_BUFFER}, or `xdp: generic`",
                known.mtu
            ));
        }
    }
    // A driver that runs the program has seen to it, whatever it says (drivers/net/virtio_net.c, `virtnet_xdp_set`).
    let runs_now = known.xdp.is_some_and(|xdp| !xdp.generic);
    for (feature, title, option) in MERGING {
        if device.has(feature) && !runs_now {
            warn(format!(
                "{title} is on: it merges packets, which then are too large to be forwarded, and drivers may refuse XDP: before lb starts, ethtool -K {name} {option} off"
            ));
        }
    }
    if device.has("rx-vlan-hw-parse") && device.has_vlans {
        warn(format!(
            "takes VLAN tags off before XDP sees them: if VIPs are in tagged VLANs of it, ethtool -K {name} rxvlan off"
        ));
    }
    if known.kind.as_deref() == Some("veth") {
        warn("is one end of a veth pair: the other end needs checksum offload off (ethtool -K eth0 tx off) and, for native mode, an XDP program".to_owned());
    } else if let Some(queues) = device.rx_queues.filter(|&queues| queues < device.cpus) {
        let cpus = device.cpus;
        warn(format!(
            "{queues} receive queues for {cpus} CPUs, and each queue is served by one: ethtool -L {name} combined {cpus}, if it has so many"
        ));
    }
    if !is_native && interface.xdp == XdpMode::Native {
        findings.push(Finding::stops(
            name,
            "its driver has no native XDP: set `xdp: auto` or `xdp: generic`",
        ));
    }
    if known.mac.is_none() {
        findings.push(Finding::stops(name, "is not Ethernet: choose another one"));
    }
    if findings.is_empty() {
        let mode = match (device.xdp, runs_native) {
            (None, _) => "the kernel doesn't tell whether it has native XDP",
            (Some(_), true) => "native XDP",
            (Some(_), false) => "generic XDP",
        };
        findings.push(Finding::ok(name, format!("{mode}, MTU {}", known.mtu)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        doctor::{
            Severity,
            device::tests::{BASIC_XDP, NO_XDP, good},
        },
        net::AttachedProgram,
    };

    const NAME: &str = "eth0";

    fn found(xdp: XdpMode, device: Option<&Device>) -> Vec<Finding> {
        let name = NAME.to_owned();
        findings(&Interface { name, xdp }, device)
    }

    #[test]
    fn a_good_interface_is_well() {
        let messages = found(XdpMode::Auto, Some(&good()));
        let messages: Vec<_> = messages.iter().map(Finding::to_string).collect();
        assert_eq!(messages, ["ok       eth0: native XDP, MTU 1500"]);
    }

    #[rstest]
    #[case::down(|it: &mut Device| it.interface.up = false, "ip link set eth0 up")]
    #[case::no_native(|it: &mut Device| it.xdp = Some(NO_XDP), "no native XDP")]
    #[case::generic_now(
        |it: &mut Device| it.interface.xdp = Some(AttachedProgram { id: 1, generic: true }),
        "runs in generic mode"
    )]
    #[case::no_redirect(|it: &mut Device| it.xdp = Some(BASIC_XDP), "can't redirect")]
    #[case::lro(|it: &mut Device| it.features = vec!["rx-lro".to_owned()], "ethtool -K eth0 lro off")]
    #[case::gro_hw(|it: &mut Device| it.features = vec!["rx-gro-hw".to_owned()], "ethtool -K eth0 rx-gro-hw off")]
    #[case::queues(|it: &mut Device| it.rx_queues = Some(1), "1 receive queues for 4 CPUs")]
    #[case::veth(|it: &mut Device| it.interface.kind = Some("veth".to_owned()), "(ethtool -K eth0 tx off)")]
    fn what_slows_an_interface_is_found(#[case] change: fn(&mut Device), #[case] words: &str) {
        let mut device = good();
        change(&mut device);
        let findings = found(XdpMode::Auto, Some(&device));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].severity, Severity::Warning);
        assert!(findings[0].message.contains(words), "{findings:?}");
    }

    #[test]
    fn a_large_mtu_matters_where_packets_must_fit_one_buffer() {
        let mut device = good();
        device.interface.mtu = 9000;
        assert_eq!(
            found(XdpMode::Auto, Some(&device))[0].severity,
            Severity::Ok
        );
        device.xdp = Some(BASIC_XDP);
        let findings = found(XdpMode::Auto, Some(&device));
        assert!(findings.iter().any(|it| it.message.contains("MTU of 9000")));
        let findings = found(XdpMode::Generic, Some(&device));
        assert!(!findings.iter().any(|it| it.message.contains("MTU")));
    }

    #[test]
    fn tags_that_are_taken_off_matter_where_there_are_vlans() {
        let mut device = good();
        device.features = vec!["rx-vlan-hw-parse".to_owned()];
        assert_eq!(
            found(XdpMode::Auto, Some(&device))[0].severity,
            Severity::Ok
        );
        device.has_vlans = true;
        let findings = found(XdpMode::Auto, Some(&device));
        assert!(findings[0].message.ends_with("rxvlan off"), "{findings:?}");
    }

    #[test]
    fn what_stops_lb_is_found() {
        let stops = |xdp, device: Option<&Device>| {
            let findings = found(xdp, device);
            findings.iter().any(|it| it.severity == Severity::Stops)
        };
        let mut device = good();
        assert!(stops(XdpMode::Auto, None));
        assert!(!stops(XdpMode::Native, Some(&device)));
        device.xdp = Some(NO_XDP);
        assert!(!stops(XdpMode::Generic, Some(&device)));
        assert!(stops(XdpMode::Native, Some(&device)));
        device.interface.mac = None;
        assert!(stops(XdpMode::Generic, Some(&device)));
    }
}
