//! Frames that end inside of a header pass, wherever they end.

use std::net::{IpAddr, Ipv6Addr};

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{BROADCAST, Family, Flow, NeighborMessage, Segment, Tag, arp, arp_request},
};

const TAGS: [Tag; 2] = [Tag::ad(9), Tag::q(7)];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(segments).collect();
    cases.extend(neighbours());
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
    variants
        .into_iter()
        .flat_map(|(variant, segment)| at_every_byte(format!("{flow}{variant}"), segment.frame()))
        .collect()
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
