//! Frames that end inside of a header pass, wherever they end.

use std::net::{IpAddr, Ipv6Addr};

use super::{echo, icmp_errors};
use crate::{
    case::Case,
    fixture::{NEAR, TUNNEL},
    frames::{BROADCAST, Extension, Family, Flow, NeighborMessage, Segment, Tag, arp, arp_request},
};

const TAGS: [Tag; 2] = [Tag::ad(9), Tag::q(7)];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(segments).collect();
    cases.extend(neighbours());
    cases.extend(Flow::all().flat_map(icmp_errors));
    cases.extend(Flow::all().flat_map(fragments));
    cases.extend(Flow::over(Family::V6).flat_map(extension_headers));
    cases.extend(Family::ALL.into_iter().flat_map(echo_requests));
    cases
}

fn segments(flow: Flow) -> Vec<Case> {
    let plain = Segment::to(flow, &NEAR, 80).with(|it| it.payload = Vec::new());
    let tagged = |tags: &[Tag]| plain.with(|it| it.tags = tags.to_vec());
    let mut variants = vec![
        ("", plain.clone()),
        (" with a tag", tagged(&TAGS[1..])),
        (" with two tags", tagged(&TAGS)),
    ];
    if flow.family == Family::V4 {
        let options = [1; 40].as_slice().try_into().expect("40 bytes fit");
        variants.push((" with options", plain.with(|it| it.options = options)));
    }
    let tunnelled = plain.with(|it| it.destination_port = TUNNEL[0].port());
    variants.push((" by L3 DSR", tunnelled));
    variants
        .into_iter()
        .flat_map(|(variant, segment)| at_every_byte(format!("{flow}{variant}"), segment.frame()))
        .collect()
}

fn icmp_errors(flow: Flow) -> Vec<Case> {
    let answer = icmp_errors::answer(flow, &NEAR, 80);
    let mut quotes = vec![("plain", answer.clone())];
    match flow.family {
        Family::V4 => {
            let options = [1; 40].as_slice().try_into().expect("40 bytes fit");
            quotes.push(("options", answer.with(|it| it.options = options)));
        }
        Family::V6 => {
            let extensions = vec![Extension::hop_by_hop(8), Extension::destination_options(24)];
            quotes.push((
                "extension headers",
                answer.with(|it| it.extensions = extensions),
            ));
        }
    }
    let cut = |(what, answer): (&str, Segment)| {
        let name = format!("ICMP error, {flow}, {what} in the quote");
        at_every_byte(
            name,
            icmp_errors::error(&answer, &icmp_errors::least(&answer)),
        )
    };
    quotes.into_iter().flat_map(cut).collect()
}

fn fragments(flow: Flow) -> Vec<Case> {
    // Up to the end of the packet: what is cut is not remembered.
    let whole = Segment::to(flow, &NEAR, 80).with(|it| it.payload = vec![0x5a; 100]);
    let first = whole.fragment(0..24);
    let later = whole.fragment(24..48);
    let mut cases = at_every_byte(format!("{flow}, first fragment"), first.clone());
    cases.extend(
        at_every_byte(format!("{flow}, later fragment"), later)
            .into_iter()
            .map(|case| case.after(vec![first.clone()])),
    );
    cases
}

fn extension_headers(flow: Flow) -> Vec<Case> {
    let every = vec![
        Extension::hop_by_hop(8),
        Extension::destination_options(16),
        Extension::routing(0),
        Extension::fragment(0, false, 7),
        Extension::destination_options(8),
    ];
    let segment = Segment::to(flow, &NEAR, 80).with(|it| {
        it.extensions = every;
        it.payload = Vec::new();
    });
    at_every_byte(format!("{flow}, extension headers"), segment.frame())
}

fn echo_requests(family: Family) -> Vec<Case> {
    let request = echo::request(&echo::envelope(family, NEAR.vip(family)));
    at_every_byte(format!("echo request over {family}"), request)
}

fn neighbours() -> Vec<Case> {
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (NEAR.vip(Family::V4), NEAR.vip(Family::V6)) else {
        panic!("a VIP of each family")
    };
    let request = arp_request([10, 9, 0, 101].into(), v4);
    // The shortest that is answered: without options.
    let solicitation = |tags: &[Tag]| NeighborMessage {
        source: Ipv6Addr::UNSPECIFIED,
        options: Vec::new(),
        tags: tags.to_vec(),
        ..NeighborMessage::solicitation(v6)
    };
    [
        at_every_byte("ARP", arp(BROADCAST, &[], &request)),
        at_every_byte("ARP with two tags", arp(BROADCAST, &TAGS, &request)),
        at_every_byte("neighbour solicitation", solicitation(&[]).frame()),
        at_every_byte(
            "neighbour solicitation with two tags",
            solicitation(&TAGS).frame(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The frame's beginnings. The whole frame, all of it headers, is a case of another file.
fn at_every_byte(name: impl std::fmt::Display, frame: Vec<u8>) -> Vec<Case> {
    (0..frame.len())
        .map(|length| {
            Case::passed(
                format!("{name}, cut to {length} bytes"),
                frame[..length].to_vec(),
            )
        })
        .collect()
}
