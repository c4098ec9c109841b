//! Source addresses that no host sends from: dropped if they are for a virtual server.

use std::net::IpAddr;

use lb_common::DropReason::MartianSource;

use crate::{
    case::Case,
    fixture::{NEAR, SECOND, TUNNEL},
    frames::{BROADCAST, Family, Flow, STRANGER_MAC, Segment},
};

pub fn cases() -> Vec<Case> {
    Flow::all().flat_map(every_flow).collect()
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let sources: &[(&str, &str)] = match flow.family {
        Family::V4 => &[
            ("loopback", "127.0.0.1"),
            ("high loopback", "127.255.255.254"),
            ("unspecified", "0.0.0.0"),
            ("this network's", "0.1.2.3"),
            ("multicast", "224.0.0.5"),
            ("high multicast", "239.255.255.255"),
            ("reserved", "240.0.0.1"),
            ("limited broadcast", "255.255.255.255"),
        ],
        Family::V6 => &[
            ("loopback", "::1"),
            ("unspecified", "::"),
            ("multicast", "ff02::1"),
            ("global multicast", "ff0e::1"),
        ],
    };
    let dropped = |what: &str, segment: &Segment| {
        Case::dropped(format!("{flow}: {what}"), segment.frame(), MartianSource)
    };
    let mut cases = Vec::new();
    for (what, source) in sources {
        let source: IpAddr = source.parse().expect("an address");
        let martian = near.with(|it| it.source = source);
        let of_nobody = martian.with(|it| it.destination_port = 79);
        let to_another = martian.with(|it| it.destination = flow.family.stranger());
        let flooded = martian.with(|it| it.destination_mac = STRANGER_MAC);
        let tunnelled = martian.with(|it| it.destination_port = TUNNEL[0].port());
        cases.extend([
            dropped(&format!("from a {what} address"), &martian),
            dropped(&format!("from a {what} address, L3 DSR"), &tunnelled),
            Case::segment_passed(format!("from a {what} address to no service"), &of_nobody),
            Case::segment_passed(format!("from a {what} address to no VIP"), &to_another),
            Case::segment_passed(format!("from a {what} address, flooded"), &flooded),
        ]);
    }
    let from_vip = near.with(|it| it.source = near.destination);
    let source_mac = |source_mac| near.with(|it| it.source_mac = source_mac);
    cases.extend([
        dropped("from the VIP", &from_vip),
        dropped(
            "land attack: from the VIP and its port",
            &from_vip.with(|it| it.source_port = near.destination_port),
        ),
        Case::forwarded(
            "from another VIP",
            &near.with(|it| it.source = SECOND.vip(flow.family)),
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
    if flow.family == Family::V6 {
        let link_local = near.with(|it| it.source = "fe80::c1".parse().expect("an address"));
        cases.push(Case::forwarded(
            "from a link-local address",
            &link_local,
            &NEAR,
        ));
    }
    cases
}
