//! ICMP errors that quote what a real server sent from a VIP go to that server.

use std::{iter::repeat_n, net::IpAddr};

use etherparse::ip_number;
use lb_common::DropReason::NoRealServer;

use crate::{
    case::Case,
    fixture::{ALL_DOWN, FAR, MANY, MANY_TUNNELS, NEAR, Service, TUNNEL},
    frames::{Extension, Family, Flow, Icmp, STRANGER_MAC, Segment, Tag},
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for flow in Flow::all() {
        for service in [&NEAR, &TUNNEL[0], &TUNNEL[1]] {
            cases.extend(kinds(flow, service));
        }
        for port in [MANY, MANY_TUNNELS] {
            cases.extend(to_one_of_many(flow, port));
        }
        cases.extend(quotes(flow));
        cases.extend(not_ours(flow));
    }
    cases
}

/// What a router sends to the sender of a segment.
pub fn envelope(segment: &Segment) -> Segment {
    let router: IpAddr = segment.flow.family.router();
    Segment::between(segment.flow, segment.source, 0).with(|it| it.source = router)
}

/// An error of the usual kind.
pub fn error(segment: &Segment, quote: &[u8]) -> Vec<u8> {
    let family = segment.flow.family;
    envelope(segment).icmp(&Icmp::too_big(family, 1400), quote)
}

/// What a real server answers to the client.
pub fn answer(flow: Flow, service: &Service, port: u16) -> Segment {
    Segment::to(flow, service, port).reversed()
}

/// The beginning that every error quotes: the IP headers and 8 bytes (RFC 792).
pub fn least(segment: &Segment) -> Vec<u8> {
    let mut packet = segment.packet();
    packet.truncate(packet.len() - segment.fragmentable_length() + 8);
    packet
}

/// Type and code.
type Kind = (u8, u8);

/// Every error, and what is none.
fn every_kind(family: Family) -> (Vec<Kind>, Vec<Kind>) {
    let codes = |kind, codes: u8| repeat_n(kind, codes.into()).zip(0..codes);
    match family {
        Family::V4 => (
            codes(3, 16)
                .chain(codes(11, 2))
                .chain(codes(12, 3))
                .collect(),
            vec![
                (0, 0),
                (4, 0),
                (5, 0),
                (5, 1),
                (9, 0),
                (10, 0),
                (13, 0),
                (253, 0),
            ],
        ),
        Family::V6 => (
            codes(1, 9)
                .chain(codes(2, 1))
                .chain(codes(3, 2))
                .chain(codes(4, 11))
                .collect(),
            vec![
                (0, 0),
                (5, 0),
                (100, 0),
                (127, 0),
                (129, 0),
                (137, 0),
                (255, 0),
            ],
        ),
    }
}

fn kinds(flow: Flow, service: &'static Service) -> Vec<Case> {
    let answer = answer(flow, service, service.port());
    let (errors, others) = every_kind(flow.family);
    let message = |(kind, code), quote: &[u8]| {
        envelope(&answer).icmp(&Icmp::of(flow.family, kind, code, [0, 0, 5, 120]), quote)
    };
    let mut cases = Vec::new();
    for kind in errors {
        for (what, quote) in [("8 bytes", least(&answer)), ("all", answer.packet())] {
            let name = format!("ICMP error {kind:?}, quoting {what}");
            cases.push(Case::frame_forwarded(
                name,
                message(kind, &quote),
                flow,
                service,
            ));
        }
    }
    for kind in others {
        let name = format!("{flow}: ICMP message {kind:?} ({service})");
        cases.push(Case::passed(name, message(kind, &answer.packet())));
    }
    cases
}

/// The error goes to the server that the client's packets go to.
fn to_one_of_many(flow: Flow, port: u16) -> Vec<Case> {
    let clients = (40_000..40_016_u16).map(|source_port| {
        let question = Segment::to(flow, &NEAR, port).with(|it| it.source_port = source_port);
        let answer = question.reversed();
        let error = error(&answer, &least(&answer));
        let name = format!("{flow}: ICMP error about port {source_port} to {port}");
        Case::followed(name, vec![question.frame()], 0, error)
    });
    clients.collect()
}

/// The packet inside, in all its forms.
fn quotes(flow: Flow) -> Vec<Case> {
    let answer = answer(flow, &NEAR, 80);
    let forwarded = |what: &str, frame| {
        Case::frame_forwarded(format!("ICMP error, {what}"), frame, flow, &NEAR)
    };
    let about = |change: &dyn Fn(&mut Segment)| {
        let answer = answer.with(change);
        error(&answer, &least(&answer))
    };
    let in_envelope = |change: &dyn Fn(&mut Segment)| {
        let too_big = Icmp::too_big(flow.family, 1400);
        envelope(&answer)
            .with(change)
            .icmp(&too_big, &least(&answer))
    };
    let long = answer.with(|it| it.payload = vec![0x5a; 2000]);
    let first = long.fragment_packet(0..1000);
    let mut padded = least(&answer);
    // RFC 4884 pads the quote to 128 bytes and puts what it has to say behind.
    padded.resize(128, 0);
    padded.extend([0x20, 0, 0xff, 0xff, 0, 4, 1, 1]);
    let tags = |tags: &[Tag]| in_envelope(&|it| it.tags = tags.to_vec());
    let by_far = in_envelope(&|it| it.destination_mac = FAR.mac);
    let mut cases = vec![
        forwarded("quoting a first fragment", error(&answer, &first)),
        forwarded(
            "quoting the beginning of a first fragment",
            error(&answer, &first[..flow.family.header_length() + 16]),
        ),
        forwarded("with an extension of RFC 4884", error(&answer, &padded)),
        forwarded("quoting a TTL of 0", about(&|it| it.ttl = 0)),
        forwarded("in a VLAN", tags(&[Tag::q(7)])),
        forwarded("in two VLANs", tags(&[Tag::ad(9), Tag::q(7)])),
        forwarded("by the other interface", by_far).by(&FAR),
        forwarded("TTL 1", in_envelope(&|it| it.ttl = 1)),
        forwarded(
            "from the client",
            in_envelope(&|it| it.source = flow.family.client()),
        ),
    ];
    match flow.family {
        Family::V4 => {
            for length in [4, 24, 40] {
                let options = || [1; 40][..length].try_into().expect("whole words");
                let what = |place| format!("{length} bytes of options in the {place}");
                cases.extend([
                    forwarded(&what("quote"), about(&|it| it.options = options())),
                    forwarded(&what("envelope"), in_envelope(&|it| it.options = options())),
                ]);
            }
        }
        Family::V6 => {
            for (name, extensions) in [
                ("hop-by-hop options", vec![Extension::hop_by_hop(8)]),
                ("a route that was taken", vec![Extension::routing(0)]),
                (
                    "an atomic fragment header",
                    vec![Extension::fragment(0, false, 7)],
                ),
                ("a first fragment", vec![Extension::fragment(0, true, 7)]),
                ("five headers", vec![Extension::destination_options(8); 5]),
            ] {
                let quoted = about(&|it| it.extensions = extensions.clone());
                cases.push(forwarded(&format!("{name} in the quote"), quoted));
            }
            let extensions = vec![Extension::hop_by_hop(8), Extension::destination_options(8)];
            let around = in_envelope(&|it| it.extensions = extensions.clone());
            cases.push(forwarded("extension headers in the envelope", around));
        }
    }
    let [unusual, segments_left] = [vec![Extension::unusual(253)], vec![Extension::routing(1)]];
    if flow.family == Family::V6 {
        let passed = |what: &str, extensions: &Vec<Extension>| {
            let frame = about(&|it| it.extensions = extensions.clone());
            Case::passed(format!("{flow}: ICMP error, {what} in the quote"), frame)
        };
        cases.extend([
            passed("an unknown header", &unusual),
            passed("a route that is not taken yet", &segments_left),
            passed("six headers", &vec![Extension::destination_options(8); 6]),
        ]);
    }
    cases
}

fn not_ours(flow: Flow) -> Vec<Case> {
    let answer = answer(flow, &NEAR, 80);
    let quote = least(&answer);
    let passed = |what: &str, frame| Case::passed(format!("{flow}: ICMP error, {what}"), frame);
    let about = |change: &dyn Fn(&mut Segment)| {
        let changed = answer.with(change);
        error(&answer, &least(&changed))
    };
    let in_envelope = |change: &dyn Fn(&mut Segment)| {
        let too_big = Icmp::too_big(flow.family, 1400);
        envelope(&answer).with(change).icmp(&too_big, &quote)
    };
    let long = answer.with(|it| it.payload = vec![0x5a; 2000]);
    let later = long.fragment_packet(1000..2000);
    let of_other_protocol = {
        let packet = answer.of_protocol(ip_number::SCTP, &[0; 32]).split_off(14);
        error(&answer, &packet)
    };
    let other_family = match flow.family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    let of_other_family = Flow {
        family: other_family,
        ..flow
    };
    let of_other_version = error(&answer, &self::answer(of_other_family, &NEAR, 80).packet());
    let nested = error(&answer, &error(&answer, &quote)[14..]);
    let mut cases = vec![
        passed(
            "about another address",
            about(&|it| it.source = flow.family.stranger()),
        ),
        passed(
            "about another VIP",
            about(&|it| it.source = ALL_DOWN.vip(flow.family)),
        ),
        passed("about the client's own packet", {
            let question = answer.reversed();
            error(&answer, &least(&question))
        }),
        passed("about no service", about(&|it| it.source_port = 79)),
        passed(
            "to another address",
            in_envelope(&|it| it.destination = flow.family.stranger()),
        ),
        passed(
            "for another station",
            in_envelope(&|it| it.destination_mac = STRANGER_MAC),
        ),
        passed("quoting a later fragment", error(&answer, &later)),
        passed("quoting another protocol", of_other_protocol),
        passed("quoting another IP version", of_other_version),
        passed("quoting an error", nested),
        passed("in three VLANs", {
            in_envelope(&|it| it.tags = vec![Tag::ad(9), Tag::q(7), Tag::q(5)])
        }),
        Case::dropped(
            format!("{flow}: ICMP error, the virtual server is down"),
            {
                let answer = self::answer(flow, &ALL_DOWN, ALL_DOWN.port());
                error(&answer, &least(&answer))
            },
            NoRealServer,
        ),
    ];
    cases.extend((0..quote.len()).flat_map(|length| {
        let frame = error(&answer, &quote[..length]);
        let name = format!("quoting {length} bytes");
        // What follows the packet is no part of the quote.
        let mut followed = frame.clone();
        followed.extend(&quote[length..]);
        [
            passed(&name, frame),
            passed(&format!("{name}, the rest as padding"), followed),
        ]
    }));
    cases
}
