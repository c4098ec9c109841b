//! What should happen and does not yet. A case moves to the file of its subject when it does.

use std::net::IpAddr;

use crate::{
    case::Case,
    fixture::{NEAR, REMOTE},
    frames::{Family, Flow, NeighborMessage, STRANGER_MAC, Segment},
};

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(wrong_lengths).collect();
    cases.extend(Flow::all().map(flooded));
    cases.extend(mapped());
    cases
}

/// The length in the IP header is not that of a packet with a transport header in this frame: malformed, the
/// kernel's business.
fn wrong_lengths(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let (field, counted_header) = match flow.family {
        Family::V4 => (16, flow.family.header_length()),
        // Its payload length leaves the header out.
        Family::V6 => (18, 0),
    };
    let transport = flow.protocol.header_length();
    let right = counted_header + transport + near.payload.len();
    let announcing = |what: &str, length: usize| {
        let mut frame = near.frame();
        let length: u16 = length.try_into().expect("the length of a datagram");
        frame[field..][..2].copy_from_slice(&length.to_be_bytes());
        Case::passed(format!("{flow}: {what} ({length} bytes)"), frame)
    };
    let mut cases = vec![
        announcing("packet of no length", 0),
        announcing(
            "packet ends in its transport header",
            counted_header + transport - 1,
        ),
        announcing("packet ends before its transport header", counted_header),
        announcing("packet longer than the frame by a byte", right + 1),
        announcing("packet as long as can be said", u16::MAX.into()),
    ];
    if flow.family == Family::V4 {
        cases.push(announcing(
            "packet shorter than its header",
            counted_header - 1,
        ));
    }
    let frame = near.frame();
    let without_payload = near.header_length();
    cases.extend((without_payload..frame.len()).map(|length| {
        let name = format!("{flow}: payload cut to {length} bytes of frame");
        Case::passed(name, frame[..length].to_vec())
    }));
    cases
}

/// A switch floods a frame that is another balancer's, with a server on another interface than it comes in by.
fn flooded(flow: Flow) -> Case {
    let segment = Segment::to(flow, &REMOTE, 81).with(|it| it.destination_mac = STRANGER_MAC);
    Case::segment_passed(
        "sent to another station, server on another interface",
        &segment,
    )
}

/// An IPv4 address mapped into IPv6 has no place on the wire (RFC 4291 section 2.5.5.2), and must not be taken for
/// the VIP inside it.
fn mapped() -> Vec<Case> {
    let IpAddr::V4(vip) = NEAR.vip(Family::V4) else {
        panic!("a VIP of IPv4")
    };
    let vip = vip.to_ipv6_mapped();
    let solicitation = NeighborMessage::solicitation(vip);
    let mut cases: Vec<Case> = Flow::over(Family::V6)
        .map(|flow| Segment::between(flow, vip.into(), 80))
        .map(|segment| Case::segment_passed("to a VIP of IPv4, mapped", &segment))
        .collect();
    cases.push(Case::passed(
        "neighbour solicitation for a VIP of IPv4, mapped",
        solicitation.frame(),
    ));
    cases
}
