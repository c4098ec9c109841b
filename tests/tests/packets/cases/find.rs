//! Which virtual server a packet belongs to.

use lb_common::DropReason::NoRealServer;

use crate::{
    case::Case,
    fixture::{ANY, DOWN, EXACT, LIST, NEAR, RANGE, SECOND, tcp_only_vip},
    frames::{Family, Flow, Protocol, Segment},
};

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(every_flow).collect();
    cases.extend(Family::ALL.into_iter().flat_map(one_protocol));
    cases
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let to = |service, port| Segment::to(flow, service, port);
    let forwarded = |what: &str, service, port| {
        Case::forwarded(format!("{what} ({port})"), &to(service, port), service)
    };
    let passed =
        |what: &str, port| Case::segment_passed(format!("{what} ({port})"), &to(&NEAR, port));
    let source_port = |source_port| to(&NEAR, 80).with(|it| it.source_port = source_port);
    vec![
        forwarded("exact port", &NEAR, 80),
        passed("below every port of the VIP", 79),
        passed("between ports of the VIP", 83),
        passed("above every port of the VIP", 65_535),
        passed("port 0 is not configured", 0),
        forwarded("first of a list", &LIST, 443),
        forwarded("second of a list", &LIST, 8443),
        passed("beside a list", 444),
        passed("before a range", 7999),
        forwarded("first of a range", &RANGE, 8000),
        forwarded("in a range, before an exact port", &RANGE, 8049),
        forwarded("exact port in a range", &EXACT, 8050),
        forwarded("in a range, after an exact port", &RANGE, 8051),
        forwarded("last of a range", &RANGE, 8100),
        passed("after a range", 8101),
        forwarded("exact port of a VIP that has any port", &SECOND, 80),
        forwarded("any port", &ANY, 1),
        forwarded("any port", &ANY, 81),
        forwarded("any port", &ANY, 65_535),
        forwarded("any port", &ANY, 0),
        Case::dropped(
            format!("{flow}: the virtual server is down"),
            to(&DOWN, 99).frame(),
            NoRealServer,
        ),
        Case::forwarded("from port 0", &source_port(0), &NEAR),
        Case::forwarded("from port 65535", &source_port(65_535), &NEAR),
    ]
}

fn one_protocol(family: Family) -> [Case; 2] {
    let vip = tcp_only_vip(family);
    let segment = |protocol, port| Segment::between(Flow { family, protocol }, vip, port);
    [
        Case::segment_passed("a VIP that serves TCP only", &segment(Protocol::Udp, 80)),
        Case::segment_passed("another port of it", &segment(Protocol::Tcp, 81)),
    ]
}
