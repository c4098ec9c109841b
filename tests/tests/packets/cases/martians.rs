//! Source addresses that no client has: forwarded as any other.

use std::net::IpAddr;

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{BROADCAST, Family, Flow, Segment},
};

pub fn cases() -> Vec<Case> {
    Flow::all().flat_map(every_flow).collect()
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let vip = near.destination;
    let sources: &[(&str, &str)] = match flow.family {
        Family::V4 => &[
            ("loopback", "127.0.0.1"),
            ("this network", "0.0.0.0"),
            ("multicast", "224.0.0.5"),
            ("limited broadcast", "255.255.255.255"),
        ],
        Family::V6 => &[
            ("loopback", "::1"),
            ("unspecified", "::"),
            ("multicast", "ff02::1"),
            ("link-local", "fe80::c1"),
        ],
    };
    let from = |what: &str, source: IpAddr| {
        let segment = near.with(|it| it.source = source);
        Case::forwarded(format!("from a {what} address"), &segment, &NEAR)
    };
    let mut cases: Vec<Case> = sources
        .iter()
        .map(|(what, source)| from(what, source.parse().expect("an address")))
        .collect();
    let source_mac = |source_mac| near.with(|it| it.source_mac = source_mac);
    cases.extend([
        from("VIP's own", vip),
        Case::forwarded(
            "land attack: from the VIP and its port",
            &Segment {
                source: vip,
                source_port: near.destination_port,
                ..near.clone()
            },
            &NEAR,
        ),
        Case::forwarded(
            "from the broadcast MAC address",
            &source_mac(BROADCAST),
            &NEAR,
        ),
        Case::forwarded(
            "from a multicast MAC address",
            &source_mac([0x01, 0, 0x5e, 0, 0, 1]),
            &NEAR,
        ),
        Case::forwarded(
            "from the balancer's own MAC address",
            &source_mac(near.destination_mac),
            &NEAR,
        ),
    ]);
    cases
}
