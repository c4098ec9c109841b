//! Fragments pass: the ports, that only the first one has, are not remembered.

use crate::{
    case::Case,
    fixture::NEAR,
    frames::{Family, Flow, Segment},
};

pub fn cases() -> Vec<Case> {
    Flow::all().flat_map(every_flow).collect()
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let whole = Segment::to(flow, &NEAR, 80).with(|it| it.payload = vec![0x5a; 1200]);
    let length = flow.protocol.header_length() + whole.payload.len();
    let to_a_stranger = whole.with(|it| it.destination = flow.family.stranger());
    let passed = |what: &str, frame| Case::passed(format!("{flow}: {what}"), frame);
    let mut cases = vec![
        passed("first fragment", whole.fragment(0..800)),
        passed("first fragment, as short as can be", whole.fragment(0..8)),
        passed("middle fragment", whole.fragment(400..800)),
        passed("last fragment", whole.fragment(800..length)),
        passed(
            "last fragment of 1 byte",
            whole.fragment(length / 8 * 8 - 8..length),
        ),
        passed(
            "first fragment for another address",
            to_a_stranger.fragment(0..800),
        ),
        passed(
            "last fragment for another address",
            to_a_stranger.fragment(800..length),
        ),
    ];
    if flow.family == Family::V6 {
        // RFC 6946.
        cases.push(passed("atomic fragment", whole.fragment(0..length)));
    }
    cases
}
