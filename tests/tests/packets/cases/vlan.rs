//! Tagged frames: up to two tags are looked through, and kept.

use crate::{
    case::Case,
    fixture::{NEAR, REMOTE},
    frames::{Flow, Segment, Tag, padded},
};

pub fn cases() -> Vec<Case> {
    Flow::all().flat_map(every_flow).collect()
}

fn every_flow(flow: Flow) -> Vec<Case> {
    let near = |tags: &[Tag]| Segment::to(flow, &NEAR, 80).with(|it| it.tags = tags.to_vec());
    let remote = |tags: &[Tag]| Segment::to(flow, &REMOTE, 81).with(|it| it.tags = tags.to_vec());
    let (single, double) = (&[Tag::q(7)], &[Tag::ad(9), Tag::q(7)]);
    vec![
        Case::forwarded("802.1Q", &near(single), &NEAR),
        Case::forwarded("802.1Q, to another interface", &remote(single), &REMOTE),
        Case::forwarded("802.1Q, priority tag only", &near(&[Tag::q(0)]), &NEAR),
        Case::forwarded("802.1Q, highest VLAN", &near(&[Tag::q(4095)]), &NEAR),
        Case::forwarded("802.1ad", &near(&[Tag::ad(9)]), &NEAR),
        Case::forwarded("802.1Q in 802.1ad", &near(double), &NEAR),
        Case::forwarded(
            "802.1Q in 802.1ad, to another interface",
            &remote(double),
            &REMOTE,
        ),
        Case::forwarded("802.1Q in 802.1Q", &near(&[Tag::q(9), Tag::q(7)]), &NEAR),
        Case::frame_forwarded(
            "802.1Q, padded",
            padded(near(single).frame(), 150),
            flow,
            &NEAR,
        ),
        Case::segment_passed("three tags", &near(&[Tag::ad(9), Tag::q(7), Tag::q(5)])),
    ]
}
