//! IP headers that contradict themselves or the frame pass: the kernel counts and drops them.

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{Family, Flow, Segment, to_balancer},
};

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Flow::all().flat_map(versions).collect();
    cases.extend(Flow::over(Family::V4).flat_map(header_lengths));
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
