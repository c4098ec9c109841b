//! What holds for any frame at all.

use std::{cell::RefCell, net::IpAddr};

use lb_ebpf::Verdict;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestCaseResult, TestRunner},
};

use crate::{
    backend::{Backend, Host, Kernel, Observed, action},
    cases,
    fixture::{FAR, LAN, MANY, NEAR, Port, VIPS},
    frames::{Flow, Segment},
    oracle,
};

/// How many frames a property is tried on, unless `LB_TEST_FRAMES` says.
const FRAMES: u32 = 5_000;

/// A frame, and where it comes in.
type Arrival = (&'static Port, Vec<u8>);

fn try_on_frames(
    frames: impl Strategy<Value = Arrival>,
    mut property: impl FnMut(&Port, &[u8]) -> TestCaseResult,
) {
    let frames_to_try = std::env::var("LB_TEST_FRAMES");
    let config = Config {
        cases: frames_to_try.map_or(FRAMES, |frames| frames.parse().expect("a number of frames")),
        failure_persistence: None,
        ..Config::default()
    };
    // The runner wants a function that it may call again while shrinking, and backends change when they run.
    let property = RefCell::new(&mut property);
    TestRunner::new(config)
        .run(&frames, |(ingress, frame)| {
            property.borrow_mut()(ingress, &frame)
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

fn ingress() -> impl Strategy<Value = &'static Port> {
    select(vec![&LAN, &FAR])
}

fn arbitrary_bytes() -> impl Strategy<Value = Arrival> {
    (ingress(), vec(any::<u8>(), 0..200))
}

/// Frames of the table with some bytes changed, some cut out or put in, and another end.
fn mutated_frames() -> impl Strategy<Value = Arrival> {
    let seeds: Vec<Vec<u8>> = cases::all()
        .into_iter()
        .map(|case| case.input)
        .filter(|frame| frame.len() >= 14)
        .collect();
    // Most headers are within this many bytes.
    let change = (
        0..120_usize,
        prop_oneof![any::<u8>(), select(&[0, 1, 0x7f, 0x80, 0xff][..])],
    );
    let length = prop_oneof![
        4 => Just(None),
        1 => any::<Index>().prop_map(Some),
    ];
    let splice = prop_oneof![
        4 => Just(None),
        1 => (any::<Index>(), 0..8_usize, vec(any::<u8>(), 0..8)).prop_map(Some),
    ];
    (ingress(), select(seeds), vec(change, 0..4), splice, length).prop_map(
        |(ingress, mut frame, changes, splice, length)| {
            for (offset, byte) in changes {
                if let Some(place) = frame.get_mut(offset) {
                    *place = byte;
                }
            }
            if let Some((start, removed, inserted)) = splice {
                let start = start.index(frame.len());
                let end = frame.len().min(start + removed);
                frame.splice(start..end, inserted);
            }
            if let Some(length) = length {
                frame.truncate(length.index(frame.len() + 1));
            }
            (ingress, frame)
        },
    )
}

/// Any client's packets to virtual servers that have several real servers.
fn flows_to_choose_for() -> impl Strategy<Value = Arrival> {
    let flows: Vec<Flow> = Flow::all().collect();
    (select(flows), any::<u128>(), any::<u16>()).prop_map(|(flow, host, source_port)| {
        let near = Segment::to(flow, &NEAR, MANY);
        let source: IpAddr = match near.source {
            IpAddr::V4(_) => (host as u32).to_be_bytes().into(),
            IpAddr::V6(_) => host.to_be_bytes().into(),
        };
        let segment = Segment {
            source,
            source_port,
            ..near
        };
        (&LAN, segment.frame())
    })
}

/// Whatever it is, this holds for what becomes of it.
fn check_outcome(input: &[u8], seen: &Observed) -> TestCaseResult {
    if !mentions_a_vip(input) {
        prop_assert_eq!(seen.verdict, Verdict::Pass, "it mentions no VIP");
    }
    let sends = match seen.verdict {
        Verdict::Pass => {
            prop_assert_eq!(&seen.output, input, "it was touched");
            return expect_counters(seen, 0);
        }
        Verdict::Drop(_) => return expect_counters(seen, 1),
        Verdict::Transmit => [LAN.mac, FAR.mac].contains(&source_mac(&seen.output)),
        Verdict::Redirect(ifindex) => [&LAN, &FAR]
            .iter()
            .any(|port| port.ifindex == ifindex && port.mac == source_mac(&seen.output)),
    };
    prop_assert!(sends, "it is not from the MAC address of an interface");
    if oracle::is_answer(&seen.output) {
        prop_assert_eq!(seen.verdict, Verdict::Transmit);
        oracle::check(&seen.output).map_err(TestCaseError::fail)?;
        expect_counters(seen, 0)
    } else {
        prop_assert_eq!(&seen.output[12..], &input[12..], "more than MACs changed");
        expect_counters(seen, 2)
    }
}

/// A forwarded packet is counted twice, for its virtual server and for its binding.
fn expect_counters(seen: &Observed, counters: usize) -> TestCaseResult {
    prop_assert_eq!(seen.counted.len(), counters, "{:?}", &seen.counted);
    prop_assert!(seen.counted.values().all(|counters| counters.packets == 1));
    Ok(())
}

fn source_mac(frame: &[u8]) -> [u8; 6] {
    frame[6..12].try_into().expect("six bytes")
}

fn mentions_a_vip(frame: &[u8]) -> bool {
    let vips = VIPS.as_flattened().iter();
    let mut vips = vips.map(|vip| match vip.parse().expect("an address") {
        IpAddr::V4(vip) => vip.octets().to_vec(),
        IpAddr::V6(vip) => vip.octets().to_vec(),
    });
    vips.any(|vip| frame.windows(vip.len()).any(|bytes| bytes == vip))
}

mod host {
    use super::*;

    fn check(frames: impl Strategy<Value = Arrival>) {
        let mut host = Host::new();
        try_on_frames(frames, |ingress, frame| {
            check_outcome(frame, &host.run(ingress, frame))
        });
    }

    #[test]
    fn arbitrary_bytes_are_left_alone() {
        check(arbitrary_bytes());
    }

    #[test]
    fn a_mutated_frame_is_untouched_or_forwarded_whole() {
        check(mutated_frames());
    }

    #[test]
    fn any_client_is_forwarded_whole() {
        let mut host = Host::new();
        try_on_frames(flows_to_choose_for(), |ingress, frame| {
            let seen = host.run(ingress, frame);
            prop_assert_ne!(seen.verdict, Verdict::Pass, "it is not forwarded");
            check_outcome(frame, &seen)
        });
    }
}

mod kernel {
    use super::*;

    /// Whether the kernel's program does the same as the library.
    fn check(frames: impl Strategy<Value = Arrival> + Send) {
        Kernel::run_in_namespace(|kernel| {
            let mut host = Host::new();
            try_on_frames(frames, |ingress, frame| {
                if !kernel.takes(frame) {
                    return Ok(());
                }
                let expected = host.run(ingress, frame);
                check_outcome(frame, &expected)?;
                let (action, output) = kernel.run_uncounted(ingress, frame);
                prop_assert_eq!(action, action_of(expected.verdict), "the action differs");
                if !matches!(expected.verdict, Verdict::Drop(_)) {
                    prop_assert_eq!(output, expected.output, "the frame differs");
                }
                Ok(())
            });
        });
    }

    #[test]
    fn the_program_does_with_mutated_frames_what_the_library_does() {
        check(mutated_frames());
    }

    #[test]
    fn the_program_chooses_the_server_that_the_library_chooses() {
        check(flows_to_choose_for());
    }
}

/// What the program returns.
const fn action_of(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop(_) => action::DROP,
        Verdict::Pass => action::PASS,
        Verdict::Transmit => action::TX,
        Verdict::Redirect(_) => action::REDIRECT,
    }
}
