//! Fragments go where their datagram's first one went, which alone has the ports.

use std::{ops::Range, time::Duration};

use lb_common::{
    DropReason::{NoRealServer, UnknownFragment},
    FirstFragment,
};

use crate::{
    case::Case,
    fixture::{ALL_DOWN, MANY, MANY_TUNNELS, NEAR, Service, TIGHT, TUNNEL},
    frames::{Extension, Family, Flow, STRANGER_MAC, Segment, Tag},
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for flow in Flow::all() {
        for service in [&NEAR, &TIGHT, &TUNNEL[0], &TUNNEL[1]] {
            cases.extend(to_one_server(flow, service));
        }
        for port in [MANY, MANY_TUNNELS] {
            cases.extend(to_one_of_many(flow, port));
        }
        cases.extend(unknown(flow));
        cases.extend(not_ours(flow));
    }
    for flow in Flow::over(Family::V6) {
        cases.extend(extension_headers(flow));
    }
    cases
}

const FIRST: Range<usize> = 0..800;
const MIDDLE: Range<usize> = 800..1600;
const LAST: usize = 1600;

/// A datagram of three fragments.
pub fn datagram(flow: Flow, service: &Service, port: u16) -> Segment {
    let payload = (0..2000).map(|index| (index % 251) as u8).collect();
    Segment::to(flow, service, port).with(|it| it.payload = payload)
}

/// Its fragments, in order.
pub fn three(whole: &Segment) -> [Vec<u8>; 3] {
    [FIRST, MIDDLE, LAST..whole.fragmentable_length()].map(|part| whole.fragment(part))
}

fn to_one_server(flow: Flow, service: &'static Service) -> Vec<Case> {
    let whole = datagram(flow, service, service.port());
    let [first, middle, last] = three(&whole);
    let forwarded =
        |what: &str, frame: &Vec<u8>| Case::frame_forwarded(what, frame.clone(), flow, service);
    let header = flow.protocol.header_length().next_multiple_of(8);
    let shortest = whole.fragment(0..header);
    let end = whole.fragmentable_length();
    let tail = whole.fragment(end / 8 * 8 - 8..end);
    let tagged = whole.with(|it| it.tags = vec![Tag::ad(9), Tag::q(7)]);
    let [tagged_first, tagged_middle, _] = three(&tagged);
    let lifetime = Duration::from_nanos(FirstFragment::LIFETIME);
    let too_late = format!("{flow}: middle fragment, half a minute later ({service})");
    vec![
        forwarded("first fragment", &first),
        forwarded("first fragment with a header only", &shortest),
        forwarded("middle fragment", &middle).after(vec![first.clone()]),
        forwarded("last fragment", &last).after(vec![first.clone()]),
        forwarded("last fragment of three", &last).after(vec![first.clone(), middle.clone()]),
        forwarded("last fragment before the middle one", &middle)
            .after(vec![first.clone(), last.clone()]),
        forwarded("last fragment of a few bytes", &tail).after(vec![first.clone()]),
        forwarded("last fragment twice", &last).after(vec![first.clone(), last]),
        forwarded("first fragment twice", &first).after(vec![first.clone()]),
        forwarded("first fragment after a later one", &first).after(vec![middle.clone()]),
        forwarded("middle fragment after the first one came late", &middle)
            .after(vec![middle.clone(), first.clone()]),
        forwarded("first fragment in VLANs", &tagged_first),
        forwarded("middle fragment in VLANs", &tagged_middle).after(vec![tagged_first]),
        forwarded("middle fragment, almost too late", &middle)
            .after(vec![first.clone()])
            .later(lifetime - Duration::from_nanos(1)),
        Case::dropped(&too_late, middle.clone(), UnknownFragment)
            .after(vec![first.clone()])
            .later(lifetime),
        Case::dropped(&too_late, middle, UnknownFragment)
            .after(vec![first])
            .later(Duration::from_secs(31)),
    ]
}

/// Each to the server that its own first one went to, and not to that of any other datagram.
fn to_one_of_many(flow: Flow, port: u16) -> Vec<Case> {
    let mut cases = Vec::new();
    let of_client =
        |source_port| datagram(flow, &NEAR, port).with(|it| it.source_port = source_port);
    for client in 0..8 {
        let mine = of_client(40_000 + client);
        let [first, middle, last] = three(&mine);
        // One client's next datagram, by another flow.
        let next = of_client(50_000 + client).with(|it| it.identification += 1);
        // Another client's of the same identification.
        let stranger = of_client(50_000 + client).with(|it| it.source = flow.family.router());
        let mut followed = |what: &str, before: Vec<&Vec<u8>>, which, frame: &Vec<u8>| {
            let before = before.into_iter().cloned().collect();
            let name = format!("{flow} to port {port}, client {client}: {what}");
            cases.push(Case::followed(name, before, which, frame.clone()));
        };
        followed("middle fragment", vec![&first], 0, &middle);
        followed("last fragment", vec![&first, &middle], 0, &last);
        for (what, other) in [("next datagram", next), ("another client's", stranger)] {
            let [other_first, other_middle, other_last] = three(&other);
            let both = || vec![&first, &other_first];
            followed(&format!("first of two, {what}"), both(), 0, &middle);
            followed(&format!("second of two, {what}"), both(), 1, &other_middle);
            let mut interleaved = both();
            interleaved.extend([&middle, &other_middle]);
            followed(
                &format!("end of first, {what}"),
                interleaved.clone(),
                0,
                &last,
            );
            followed(
                &format!("end of second, {what}"),
                interleaved,
                1,
                &other_last,
            );
        }
        // A client that has used its identifications up starts again.
        let again = of_client(50_000 + client);
        let [again_first, again_middle, _] = three(&again);
        followed(
            "identification in use again",
            vec![&first, &again_first],
            1,
            &again_middle,
        );
    }
    cases
}

/// Fragments of a datagram to a VIP whose first one has not been seen.
fn unknown(flow: Flow) -> Vec<Case> {
    let whole = datagram(flow, &NEAR, 80);
    let [first, middle, last] = three(&whole);
    let dropped = |what: &str, frame: &Vec<u8>| {
        Case::dropped(format!("{flow}: {what}"), frame.clone(), UnknownFragment)
    };
    let changed = |change: &dyn Fn(&mut Segment)| {
        let [first, ..] = three(&whole.with(change));
        vec![first]
    };
    let mut cut = first.clone();
    cut.pop();
    let down = datagram(flow, &ALL_DOWN, ALL_DOWN.port());
    let [down_first, down_middle, _] = three(&down);
    let other_vip = TIGHT.vip(flow.family);
    assert_eq!(whole.destination, other_vip);
    let mut cases = vec![
        dropped("middle fragment alone", &middle),
        dropped("last fragment alone", &last),
        dropped("last fragment before the first", &last).after(vec![middle.clone()]),
        dropped("another identification", &middle)
            .after(changed(&|it| it.identification ^= 0x8000)),
        dropped("another client", &middle).after(changed(&|it| it.source = flow.family.router())),
        dropped("another VIP", &middle)
            .after(changed(&|it| it.destination = ALL_DOWN.vip(flow.family))),
        dropped("the first one was cut", &middle).after(vec![cut]),
        Case::dropped(
            format!("{flow}: first fragment, the virtual server is down"),
            down_first.clone(),
            NoRealServer,
        ),
        dropped("middle fragment, the virtual server is down", &down_middle)
            .after(vec![down_first]),
        Case::segment_passed(
            "a whole one of the same identification",
            &whole.with(|it| {
                it.destination_port = 79;
                it.payload.clear();
            }),
        )
        .after(vec![first]),
    ];
    if flow.family == Family::V4 {
        // In IPv4 datagrams of two protocols may have the same identification.
        let other = Flow::over(Family::V4).find(|other| *other != flow);
        let [other_first, ..] = three(&datagram(other.expect("another protocol"), &NEAR, 80));
        cases.push(dropped("another protocol", &middle).after(vec![other_first]));
    }
    cases
}

/// What is not for a virtual server passes, in all its parts.
fn not_ours(flow: Flow) -> Vec<Case> {
    let passed =
        |what: &str, frame: &Vec<u8>| Case::passed(format!("{flow}: {what}"), frame.clone());
    let parts = |change: &dyn Fn(&mut Segment)| three(&datagram(flow, &NEAR, 80).with(change));
    let [first, middle, last] = parts(&|it| it.destination = flow.family.stranger());
    let [of_nobody, of_nobody_middle, of_nobody_last] = parts(&|it| it.destination_port = 79);
    let [flooded, flooded_middle, _] = parts(&|it| it.destination_mac = STRANGER_MAC);
    let [ours, _, _] = three(&datagram(flow, &NEAR, 80));
    let mut cases = vec![
        passed("first fragment for another address", &first),
        passed("middle fragment for another address", &middle),
        passed("last fragment for another address", &last).after(vec![first]),
        passed("first fragment to no service", &of_nobody),
        passed("middle fragment to no service", &of_nobody_middle).after(vec![of_nobody.clone()]),
        passed("last fragment to no service", &of_nobody_last)
            .after(vec![of_nobody, of_nobody_middle]),
        passed("first fragment for another station", &flooded),
        passed("middle fragment for another station", &flooded_middle).after(vec![flooded]),
        passed("middle fragment alone for another station", &flooded_middle),
        passed(
            "middle fragment for another station, of a known datagram",
            &flooded_middle,
        )
        .after(vec![ours]),
    ];
    if flow.protocol.is_tcp() {
        // Without all of its header it is nobody's (RFC 1858); only the later ones can be told to be of a VIP.
        let whole = datagram(flow, &NEAR, 80);
        let tiny = whole.fragment(0..8);
        let rest = whole.fragment(8..LAST);
        let name = format!("{flow}: the rest of a header");
        cases.push(passed("first fragment with half a header", &tiny));
        cases.push(Case::dropped(name, rest, UnknownFragment).after(vec![tiny]));
    }
    cases
}

/// Extension headers before and behind the fragment header.
fn extension_headers(flow: Flow) -> Vec<Case> {
    let options = || vec![Extension::destination_options(16)];
    let routing = || vec![Extension::hop_by_hop(8), Extension::routing(0)];
    let mut cases = Vec::new();
    for (what, extensions, fragmentable) in [
        ("options before", options(), vec![]),
        ("options behind", vec![], options()),
        ("options before and behind", options(), options()),
        ("hop-by-hop options and a route before", routing(), vec![]),
        ("a route before, options behind", routing(), options()),
    ] {
        for port in [MANY, MANY_TUNNELS] {
            let whole = datagram(flow, &NEAR, port).with(|it| {
                it.extensions = extensions.clone();
                it.fragmentable = fragmentable.clone();
            });
            let [first, middle, last] = three(&whole);
            for (part, frame) in [("middle", middle), ("last", last)] {
                let name = format!("{flow}: {part} fragment, {what} (port {port})");
                cases.push(Case::followed(name, vec![first.clone()], 0, frame));
            }
        }
    }
    let whole = datagram(flow, &NEAR, 80);
    let length = whole.fragmentable_length();
    // RFC 6946.
    let atomic = whole.fragment(0..length);
    let [_, middle, _] = three(&whole);
    let behind_atomic = format!("{flow}: middle fragment after an atomic one");
    cases.extend([
        Case::frame_forwarded("atomic fragment", atomic.clone(), flow, &NEAR),
        Case::dropped(behind_atomic, middle, UnknownFragment).after(vec![atomic]),
    ]);
    cases
}
