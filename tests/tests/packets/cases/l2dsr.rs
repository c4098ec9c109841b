//! L2 DSR: the MAC addresses change, and nothing else.

use etherparse::{IpDscp, TcpHeader};

use crate::{
    case::Case,
    fixture::{DOWN, NEAR, REMOTE},
    frames::{Family, Flow, Protocol, SHORTEST, STRANGER_MAC, Segment, padded},
};
use lb_common::DropReason::NoRealServer;

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
    let near_of = |length: usize| Segment {
        payload: vec![0x5a; length - near.header_length()],
        ..near.clone()
    };
    let empty = Segment {
        payload: Vec::new(),
        ..near.clone()
    };
    vec![
        Case::forwarded("to a server on the same interface", &near, &NEAR),
        Case::forwarded("to a server on another interface", &remote, &REMOTE),
        Case::dropped(
            format!("{flow}: no server is up"),
            down.frame(),
            NoRealServer,
        ),
        Case::forwarded(
            "ttl 1",
            &Segment {
                ttl: 1,
                ..near.clone()
            },
            &NEAR,
        ),
        Case::forwarded(
            "ttl 1, to another interface",
            &Segment {
                ttl: 1,
                ..remote.clone()
            },
            &REMOTE,
        ),
        Case::forwarded(
            "ttl 64",
            &Segment {
                ttl: 64,
                ..near.clone()
            },
            &NEAR,
        ),
        Case::forwarded(
            "ttl 255",
            &Segment {
                ttl: 255,
                ..near.clone()
            },
            &NEAR,
        ),
        Case::forwarded(
            "ttl 0",
            &Segment {
                ttl: 0,
                ..near.clone()
            },
            &NEAR,
        ),
        Case::forwarded(
            "expedited forwarding, congestion experienced",
            &Segment {
                traffic_class: IpDscp::EF.value() << 2 | 3,
                ..near.clone()
            },
            &NEAR,
        ),
        Case::forwarded(
            "every bit of the traffic class",
            &Segment {
                traffic_class: 0xff,
                ..near.clone()
            },
            &NEAR,
        ),
        Case::forwarded("no payload", &empty, &NEAR),
        Case::frame_forwarded(
            "padding up to the shortest frame",
            padded(empty.frame(), SHORTEST),
            &empty,
            &NEAR,
        ),
        Case::frame_forwarded(
            "padding after the packet",
            padded(near.frame(), 150),
            &near,
            &NEAR,
        ),
        Case::forwarded("1,500 bytes of IP packet", &near_of(1514), &NEAR),
        Case::forwarded("as long as fits a page", &near_of(LONGEST_ON_A_PAGE), &NEAR),
        Case::forwarded("a jumbo frame", &near_of(JUMBO), &NEAR),
        Case::segment_passed(
            "sent to another station",
            &Segment {
                destination_mac: STRANGER_MAC,
                ..near.clone()
            },
        ),
        Case::segment_passed(
            "on its way to the real server",
            &Segment {
                destination_mac: NEAR.server.mac,
                ..near.clone()
            },
        ),
    ]
}

fn ipv4(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let mut cases: Vec<Case> = (4..=40)
        .step_by(4)
        .map(|length: usize| {
            // No operation (RFC 791 section 3.1), again and again.
            let options = [1; 40][..length].try_into().expect("at most 40 bytes");
            let segment = Segment {
                options,
                ..near.clone()
            };
            Case::forwarded(format!("{length} bytes of options"), &segment, &NEAR)
        })
        .collect();
    if flow.protocol == Protocol::Udp {
        let segment = Segment {
            udp_checksum: false,
            ..near
        };
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
