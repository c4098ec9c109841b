//! L2 DSR: the MAC addresses change, and nothing else.

use etherparse::{IpDscp, TcpHeader};
use lb_common::DropReason::NoRealServer;

use crate::{
    case::Case,
    fixture::{DOWN, FAR, NEAR, REMOTE, TIGHT},
    frames::{Family, Flow, Protocol, SHORTEST, STRANGER_MAC, Segment, padded},
};

/// The longest Ethernet frame that a program sees in one piece, on a page with the kernel's own data.
const LONGEST_ON_A_PAGE: usize = 3498;
/// A jumbo frame.
const JUMBO: usize = 9014;

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(every_flow).collect();
    cases.extend(Flow::over(Family::V4).flat_map(ipv4));
    cases.extend(Family::ALL.into_iter().flat_map(tcp));
    cases
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let remote = Segment::to(flow, &REMOTE, 81);
    let down = Segment::to(flow, &DOWN, 99);
    let near_of =
        |length: usize| near.with(|it| it.payload = vec![0x5a; length - near.header_length()]);
    let by_far = |segment: &Segment| segment.with(|it| it.destination_mac = FAR.mac);
    let empty = near.with(|it| it.payload = Vec::new());
    vec![
        Case::forwarded("to a server on the same interface", &near, &NEAR),
        Case::forwarded("to a server on another interface", &remote, &REMOTE),
        Case::forwarded(
            "by the other interface, back out",
            &by_far(&remote),
            &REMOTE,
        )
        .by(&FAR),
        Case::forwarded("by the other interface, to this one", &by_far(&near), &NEAR).by(&FAR),
        Case::dropped(
            format!("{flow}: no server is up"),
            down.frame(),
            NoRealServer,
        ),
        Case::forwarded("ttl 1", &near.with(|it| it.ttl = 1), &NEAR),
        Case::forwarded(
            "ttl 1, to another interface",
            &remote.with(|it| it.ttl = 1),
            &REMOTE,
        ),
        Case::forwarded("ttl 64", &near.with(|it| it.ttl = 64), &NEAR),
        Case::forwarded("ttl 255", &near.with(|it| it.ttl = 255), &NEAR),
        Case::forwarded("ttl 0", &near.with(|it| it.ttl = 0), &NEAR),
        Case::forwarded(
            "expedited forwarding, congestion experienced",
            &near.with(|it| it.traffic_class = IpDscp::EF.value() << 2 | 3),
            &NEAR,
        ),
        Case::forwarded(
            "every bit of the traffic class",
            &near.with(|it| it.traffic_class = 0xff),
            &NEAR,
        ),
        Case::forwarded("no payload", &empty, &NEAR),
        Case::frame_forwarded(
            "padding up to the shortest frame",
            padded(empty.frame(), SHORTEST),
            flow,
            &NEAR,
        ),
        Case::frame_forwarded(
            "padding after the packet",
            padded(near.frame(), 150),
            flow,
            &NEAR,
        ),
        Case::forwarded("1,500 bytes of IP packet", &near_of(1514), &NEAR),
        Case::forwarded("as long as fits a page", &near_of(LONGEST_ON_A_PAGE), &NEAR),
        Case::forwarded("a jumbo frame", &near_of(JUMBO), &NEAR),
        Case::segment_passed(
            "sent to another station",
            &near.with(|it| it.destination_mac = STRANGER_MAC),
        ),
        Case::segment_passed(
            "sent to another station, server on another interface",
            &remote.with(|it| it.destination_mac = STRANGER_MAC),
        ),
        Case::segment_passed(
            "sent to another station, no server is up",
            &down.with(|it| it.destination_mac = STRANGER_MAC),
        ),
        Case::forwarded(
            "as long as the MTU",
            &Segment::to(flow, &TIGHT, 84).with_packet_length(TIGHT.fits()),
            &TIGHT,
        ),
        Case::segment_passed(
            "on its way to the real server",
            &near.with(|it| it.destination_mac = NEAR.server.mac),
        ),
    ]
}

fn ipv4(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let with_options = |what: &str, options: &[u8]| {
        let options = options.try_into().expect("whole words, at most 40 bytes");
        let segment = near.with(|it| it.options = options);
        Case::forwarded(what, &segment, &NEAR)
    };
    let mut cases: Vec<Case> = (4..=40)
        .step_by(4)
        // No operation (RFC 791 section 3.1), again and again.
        .map(|length| with_options(&format!("{length} bytes of options"), &[1; 40][..length]))
        .collect();
    cases.extend([
        with_options("end of options", &[0; 4]),
        with_options("router alert", &[148, 4, 0, 0]),
        with_options("stream identifier", &[136, 4, 0, 7]),
        with_options("record route", &[7, 7, 4, 0, 0, 0, 0, 0]),
        with_options("timestamp", &[68, 8, 5, 0, 0, 0, 0, 0]),
        with_options("security", &[130, 3, 0, 1]),
        // At its last hop: the destination is the address in the header.
        with_options("loose source route", &[131, 7, 8, 10, 9, 0, 1, 0]),
        with_options("strict source route", &[137, 7, 8, 10, 9, 0, 1, 0]),
        with_options("unknown option", &[0x5e, 4, 0xff, 0xff]),
        with_options("option that is longer than the header", &[7, 255, 4, 0]),
        with_options("option of no length", &[7, 0, 4, 0]),
        with_options("40 bytes of record route", &{
            let mut route = [0; 40];
            route[..3].copy_from_slice(&[7, 39, 4]);
            route
        }),
    ]);
    let may_be_fragmented = near.with(|it| it.dont_fragment = false);
    cases.push(Case::forwarded(
        "may be fragmented",
        &may_be_fragmented,
        &NEAR,
    ));
    if flow.protocol == Protocol::Udp {
        let segment = near.with(|it| it.udp_checksum = false);
        cases.push(Case::forwarded("without a UDP checksum", &segment, &NEAR));
    }
    cases
}

fn tcp(family: Family) -> Vec<Case> {
    let flow = Flow {
        family,
        protocol: Protocol::Tcp,
    };
    let with = |set: &dyn Fn(&mut TcpHeader)| {
        let mut segment = Segment::to(flow, &NEAR, 80);
        segment.tcp.syn = false;
        set(&mut segment.tcp);
        segment
    };
    let options = with(&|tcp| tcp.set_options_raw(&[1; 40]).expect("40 bytes fit"));
    vec![
        Case::forwarded("acknowledgment", &with(&|tcp| tcp.ack = true), &NEAR),
        Case::forwarded("end", &with(&|tcp| tcp.fin = true), &NEAR),
        Case::forwarded("reset", &with(&|tcp| tcp.rst = true), &NEAR),
        Case::forwarded("no flags", &with(&|_| ()), &NEAR),
        Case::forwarded("40 bytes of TCP options", &options, &NEAR),
    ]
}
