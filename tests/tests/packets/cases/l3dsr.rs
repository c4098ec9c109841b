//! L3 DSR: an outer header, and the packet inside as it came.

use etherparse::IpDscp;
use lb_common::DropReason::NoRealServer;

use crate::{
    case::Case,
    fixture::{ALL_DOWN, FAR, JUMBO_TUNNEL, Service, TUNNEL, tunnels},
    frames::{Extension, Family, Flow, Protocol, SHORTEST, STRANGER_MAC, Segment, Tag, padded},
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for flow in Flow::all() {
        for service in tunnels() {
            cases.extend(every_tunnel(flow, service));
        }
        for service in &TUNNEL {
            cases.extend(headers(flow, service));
        }
    }
    cases
}

/// Where it goes, by every kind of way.
fn every_tunnel(flow: Flow, service: &'static Service) -> Vec<Case> {
    let segment = Segment::to(flow, service, service.port());
    let tagged = |tags: &[Tag]| segment.with(|it| it.tags = tags.to_vec());
    let forwarded = |what: &str, segment: &Segment| Case::forwarded(what, segment, service);
    let by_far = segment.with(|it| it.destination_mac = FAR.mac);
    let to_stranger = segment.with(|it| it.destination_mac = STRANGER_MAC);
    let to_server = segment.with(|it| it.destination_mac = service.server.mac);
    let other_port = segment.with(|it| it.destination_port = 79);
    vec![
        forwarded("plain", &segment),
        forwarded("by the other interface", &by_far).by(&FAR),
        forwarded("802.1Q", &tagged(&[Tag::q(7)])),
        forwarded("802.1ad", &tagged(&[Tag::ad(9)])),
        forwarded("802.1Q in 802.1ad", &tagged(&[Tag::ad(9), Tag::q(7)])),
        forwarded(
            "as long as fits",
            &segment.with_packet_length(service.fits()),
        ),
        forwarded(
            "as long as fits, in two VLANs",
            &tagged(&[Tag::ad(9), Tag::q(7)]).with_packet_length(service.fits()),
        ),
        Case::segment_passed("three tags", &tagged(&[Tag::ad(9), Tag::q(7), Tag::q(5)])),
        Case::segment_passed(format!("to another station ({service})"), &to_stranger),
        Case::segment_passed(format!("to the next hop ({service})"), &to_server),
        Case::segment_passed(format!("a port beside ({service})"), &other_port),
    ]
}

/// What the outer header takes from the inner one.
fn headers(flow: Flow, service: &'static Service) -> Vec<Case> {
    let segment = Segment::to(flow, service, service.port());
    let forwarded = |what: &str, segment: &Segment| Case::forwarded(what, segment, service);
    let traffic_class = |traffic_class| segment.with(|it| it.traffic_class = traffic_class);
    let ttl = |ttl| segment.with(|it| it.ttl = ttl);
    let empty = segment.with(|it| it.payload = Vec::new());
    let jumbo = &JUMBO_TUNNEL[usize::from(service.overhead() == Family::V6.header_length())];
    let of_jumbo = Segment::to(flow, jumbo, jumbo.port());
    let mut cases = vec![
        forwarded("inner TTL 1", &ttl(1)),
        forwarded("inner TTL 64", &ttl(64)),
        forwarded("inner TTL 255", &ttl(255)),
        forwarded(
            "expedited forwarding",
            &traffic_class(IpDscp::EF.value() << 2),
        ),
        forwarded("not-ECT", &traffic_class(0)),
        forwarded("ECT(1)", &traffic_class(1)),
        forwarded("ECT(0)", &traffic_class(2)),
        forwarded("congestion experienced", &traffic_class(3)),
        forwarded("every bit of the traffic class", &traffic_class(0xff)),
        forwarded("no payload", &empty),
        Case::frame_forwarded(
            "padding up to the shortest frame",
            padded(empty.frame(), SHORTEST),
            flow,
            service,
        ),
        Case::frame_forwarded(
            "padding after the packet",
            padded(segment.frame(), 150),
            flow,
            service,
        ),
        Case::frame_forwarded(
            "padding beyond the MTU",
            padded(segment.frame(), 1600),
            flow,
            service,
        ),
        Case::forwarded("a jumbo frame", &of_jumbo.with_packet_length(8900), jumbo),
        Case::forwarded("one page", &of_jumbo.with_packet_length(3400), jumbo),
        Case::dropped(
            format!("{flow}: the virtual server is down"),
            Segment::to(flow, &ALL_DOWN, ALL_DOWN.port()).frame(),
            NoRealServer,
        ),
    ];
    match flow.family {
        Family::V4 => {
            let may_be_fragmented = segment.with(|it| it.dont_fragment = false);
            let options = |bytes| vec![1; bytes].as_slice().try_into().expect("they fit");
            cases.extend([
                forwarded("may be fragmented", &may_be_fragmented),
                forwarded(
                    "may be fragmented, identification 0",
                    &may_be_fragmented.with(|it| it.identification = 0),
                ),
                forwarded(
                    "40 bytes of options",
                    &segment.with(|it| it.options = options(40)),
                ),
                forwarded(
                    "4 bytes of options, all bits of the traffic class",
                    &segment.with(|it| {
                        it.options = options(4);
                        it.traffic_class = 0xff;
                    }),
                ),
            ]);
            if flow.protocol == Protocol::Udp {
                let unsummed = segment.with(|it| it.udp_checksum = false);
                cases.push(forwarded("without a UDP checksum", &unsummed));
            }
        }
        Family::V6 => {
            let extensions = vec![Extension::hop_by_hop(8), Extension::destination_options(16)];
            cases.push(forwarded(
                "extension headers",
                &segment.with(|it| it.extensions = extensions),
            ));
        }
    }
    cases
}
