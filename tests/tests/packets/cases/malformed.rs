//! IP headers that contradict themselves or the frame pass: the kernel counts and drops them.

use std::net::IpAddr;

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{Family, Flow, Segment, to_balancer},
};

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(versions).collect();
    cases.extend(Flow::over(Family::V4).flat_map(header_lengths));
    cases.extend(Flow::all().flat_map(packet_lengths));
    cases.extend(Flow::over(Family::V6).flat_map(mapped));
    cases
}

/// The first half byte says otherwise than the EtherType.
fn versions(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let (right, other) = match flow.family {
        Family::V4 => (4, Family::V6),
        Family::V6 => (6, Family::V4),
    };
    let mut cases: Vec<Case> = (0..=15)
        .filter(|version| *version != right)
        .map(|version| {
            let mut frame = near.frame();
            frame[14] = version << 4 | frame[14] & 0xf;
            Case::passed(format!("{flow}: IP version {version}"), frame)
        })
        .collect();
    let packet = near.frame().split_off(14);
    let frame = to_balancer(other.ether_type(), &packet);
    cases.push(Case::passed(
        format!("{flow}: EtherType of the other version"),
        frame,
    ));
    cases
}

fn header_lengths(flow: Flow) -> Vec<Case> {
    let near = Segment::to(flow, &NEAR, 80);
    let with_length = |words: u8, bytes: Option<usize>| {
        let mut frame = near.frame();
        frame[14] = 0x40 | words;
        frame.truncate(bytes.unwrap_or(frame.len()));
        frame
    };
    let mut cases: Vec<Case> = (0..5)
        .map(|words| {
            let name = format!("{flow}: header of {} bytes", 4 * words);
            Case::passed(name, with_length(words, None))
        })
        .collect();
    // The frame ends before the header does.
    cases.push(Case::passed(
        format!("{flow}: header longer than the frame"),
        with_length(15, Some(14 + 48)),
    ));
    cases
}

/// The length in the IP header is not that of a packet with a transport header in this frame.
fn packet_lengths(flow: Flow) -> Vec<Case> {
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

/// An IPv4 address mapped into IPv6 has no place on the wire (RFC 4291 section 2.5.5.2), and must not be taken for
/// the address inside it.
fn mapped(flow: Flow) -> [Case; 2] {
    let mapped = |address| match address {
        IpAddr::V4(address) => IpAddr::from(address.to_ipv6_mapped()),
        IpAddr::V6(_) => panic!("{address} is not of IPv4"),
    };
    let to_mapped = Segment::between(flow, mapped(NEAR.vip(Family::V4)), 80);
    let from_mapped =
        Segment::to(flow, &NEAR, 80).with(|it| it.source = mapped(Family::V4.client()));
    [
        Case::segment_passed("to a VIP of IPv4, mapped", &to_mapped),
        Case::segment_passed("from a client of IPv4, mapped", &from_mapped),
    ]
}
