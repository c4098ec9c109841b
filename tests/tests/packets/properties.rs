//! What holds for any frame at all.

use std::{cell::RefCell, net::IpAddr};

use lb_common::DropReason;
use lb_ebpf::Verdict;
use lb_fuzz::{check::mentions_a_vip, oracle};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestCaseResult, TestRunner},
};

use crate::{
    backend::{Backend, Host, Kernel, Observed, action},
    case::dropped,
    cases,
    fixture::{FAR, LAN, MANY, MANY_TUNNELS, NEAR, Port, server_addresses},
    frames::{Flow, Segment},
    outer,
};

/// How many frames a property is tried on, unless `LB_TEST_FRAMES` says.
const FRAMES: u32 = 5_000;

/// A frame, where it comes in, and the frames that came in there before.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub ingress: &'static Port,
    pub before: Vec<Vec<u8>>,
    pub frame: Vec<u8>,
}

impl Arrival {
    /// What becomes of it.
    fn run(&self, backend: &mut impl Backend) -> Observed {
        self.prepare(backend);
        backend.run(self.ingress, &self.frame)
    }

    /// All that comes before it.
    fn prepare(&self, backend: &mut impl Backend) {
        backend.forget();
        for frame in &self.before {
            backend.feed(self.ingress, frame);
        }
    }
}

fn try_on_frames(
    frames: impl Strategy<Value = Arrival>,
    property: impl FnMut(&Arrival) -> TestCaseResult,
) {
    try_on(&frames, 1, property);
}

/// Tries a property on inputs that have about so many frames each.
pub fn try_on<T: std::fmt::Debug>(
    inputs: &impl Strategy<Value = T>,
    frames_each: u32,
    mut property: impl FnMut(&T) -> TestCaseResult,
) {
    let frames = std::env::var("LB_TEST_FRAMES");
    let frames = frames.map_or(FRAMES, |frames| frames.parse().expect("a number of frames"));
    let config = Config {
        cases: frames.div_ceil(frames_each),
        failure_persistence: None,
        ..Config::default()
    };
    // The runner wants a function that it may call again while shrinking, and backends change when they run.
    let property = RefCell::new(&mut property);
    TestRunner::new(config)
        .run(inputs, |input| property.borrow_mut()(&input))
        .unwrap_or_else(|error| panic!("{error}"));
}

fn ingress() -> impl Strategy<Value = &'static Port> {
    select(vec![&LAN, &FAR])
}

fn arbitrary_bytes() -> impl Strategy<Value = Arrival> {
    (ingress(), vec(any::<u8>(), 0..200)).prop_map(|(ingress, frame)| Arrival {
        ingress,
        before: Vec::new(),
        frame,
    })
}

/// Frames of the table with some bytes changed, some cut out or put in, and another end, after those that come
/// before them there.
pub fn mutated_frames() -> impl Strategy<Value = Arrival> {
    // Those that end somewhere are most of the table, and come about by themselves.
    let seeds: Vec<(Vec<Vec<u8>>, Vec<u8>)> = cases::all()
        .into_iter()
        .filter(|case| case.input.len() >= 14 && !case.name.contains("cut to"))
        .map(|case| (case.before, case.input))
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
        |(ingress, (before, mut frame), changes, splice, length)| {
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
            Arrival {
                ingress,
                before,
                frame,
            }
        },
    )
}

/// Any client's packets to virtual servers that have several real servers.
fn flows_to_choose_for() -> impl Strategy<Value = Arrival> {
    let flows: Vec<Flow> = Flow::all().collect();
    let ports = select(&[MANY, MANY_TUNNELS][..]);
    (select(flows), ports, any::<u128>(), any::<u16>()).prop_map(
        |(flow, port, host, source_port)| {
            let near = Segment::to(flow, &NEAR, port);
            let source: IpAddr = match near.source {
                IpAddr::V4(_) => (host as u32).to_be_bytes().into(),
                IpAddr::V6(_) => host.to_be_bytes().into(),
            };
            let segment = Segment {
                source,
                source_port,
                ..near
            };
            Arrival {
                ingress: &LAN,
                before: Vec::new(),
                frame: segment.frame(),
            }
        },
    )
}

/// Whatever it is, this holds for what becomes of it.
fn check_outcome(input: &[u8], seen: &Observed) -> TestCaseResult {
    if !mentions_a_vip(input) {
        prop_assert_eq!(seen.verdict, Verdict::Pass, "it mentions no VIP");
    }
    let Observed {
        output, counted, ..
    } = seen;
    prop_assert!(counted.values().all(|counters| counters.packets == 1));
    let sends = match seen.verdict {
        Verdict::Pass => {
            prop_assert_eq!(output, input, "it was touched");
            prop_assert!(counted.is_empty(), "{:?}", counted);
            return Ok(());
        }
        Verdict::Drop(reason) => {
            prop_assert_eq!(counted, &[dropped(reason, 1)].into());
            return Ok(());
        }
        Verdict::Transmit => [LAN.mac, FAR.mac].contains(&source_mac(output)),
        Verdict::Redirect(ifindex) => [&LAN, &FAR]
            .iter()
            .any(|port| port.ifindex == ifindex && port.mac == source_mac(output)),
    };
    prop_assert!(sends, "it is not from the MAC address of an interface");
    if *counted == [dropped(DropReason::TooBig, 1)].into() {
        prop_assert_eq!(seen.verdict, Verdict::Transmit);
        return oracle::check(output).map_err(TestCaseError::fail);
    }
    if counted.is_empty() {
        prop_assert_eq!(seen.verdict, Verdict::Transmit);
        prop_assert!(oracle::is_answer(output), "it answers nothing");
    } else {
        // For its binding.
        prop_assert_eq!(counted.len(), 1, "{:?}", counted);
        match outer::destination(input, output) {
            None => prop_assert_eq!(&output[12..], &input[12..], "more than MACs changed"),
            Some((macs, server)) => {
                prop_assert!(server_addresses().any(|address| address == server));
                let expected = outer::encapsulated(input, macs, server, output);
                prop_assert_eq!(output, &expected);
            }
        }
    }
    // A checksum that was wrong before stays wrong, so that its receiver sees it.
    if oracle::check(input).is_ok() {
        oracle::check(output).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

fn source_mac(frame: &[u8]) -> [u8; 6] {
    frame[6..12].try_into().expect("six bytes")
}

mod host {
    use super::*;

    fn check(frames: impl Strategy<Value = Arrival>) {
        let mut host = Host::new();
        try_on_frames(frames, |arrival| {
            check_outcome(&arrival.frame, &arrival.run(&mut host))
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
        try_on_frames(flows_to_choose_for(), |arrival| {
            let seen = arrival.run(&mut host);
            prop_assert_ne!(seen.verdict, Verdict::Pass, "it is not forwarded");
            check_outcome(&arrival.frame, &seen)
        });
    }

    #[test]
    fn the_shortcut_does_what_the_whole_path_does() {
        let mut host = Host::new();
        let mut whole_path = Host::new().without_shortcut();
        try_on_frames(
            prop_oneof![mutated_frames(), flows_to_choose_for()],
            |arrival| {
                prop_assert_eq!(arrival.run(&mut host), arrival.run(&mut whole_path));
                Ok(())
            },
        );
    }
}

mod kernel {
    use super::*;

    /// Whether the kernel's program does the same as the library, without a shortcut.
    fn check(frames: impl Strategy<Value = Arrival> + Send) {
        Kernel::run_in_namespace(|kernel| {
            let mut host = Host::new().without_shortcut();
            try_on_frames(frames, |arrival| {
                let Arrival { ingress, frame, .. } = arrival;
                if !Kernel::takes_frame(frame) {
                    return Ok(());
                }
                let expected = arrival.run(&mut host);
                check_outcome(frame, &expected)?;
                arrival.prepare(kernel);
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
pub const fn action_of(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop(_) => action::DROP,
        Verdict::Pass => action::PASS,
        Verdict::Transmit => action::TX,
        Verdict::Redirect(_) => action::REDIRECT,
    }
}
