//! What depends on more than the frames: the budget of errors, and the room around a packet.

use std::time::Duration;

use lb_common::{
    Budget,
    DropReason::{NoHeadroom, TooBig, TooBigUnanswered},
};
use lb_ebpf::Verdict;

use crate::{
    backend::{Backend, Host, Kernel, Observed},
    case::dropped,
    cases::too_big,
    fixture::{LAN, NEAR, Sources, TUNNEL, config, tunnels},
    frames::{Flow, Segment},
};

/// A segment that does not fit by a byte, with the error that says so.
fn too_long(flow: Flow) -> (Vec<u8>, Observed) {
    let service = &TUNNEL[0];
    let fits = service.fits();
    let segment = Segment::to(flow, service, service.port()).with_packet_length(fits + 1);
    let refused = Observed {
        verdict: Verdict::Transmit,
        output: too_big::error(&segment, &segment.packet(), fits),
        counted: [dropped(TooBig, 1)].into(),
    };
    (segment.frame(), refused)
}

#[test]
fn past_its_budget_a_window_has_no_errors_and_the_next_one_has() {
    let mut host = Host::new();
    for flow in Flow::all() {
        let (frame, refused) = too_long(flow);
        for _ in 0..Budget::ERRORS {
            assert_eq!(host.run(&LAN, &frame), refused);
        }
        let unanswered = host.run(&LAN, &frame);
        assert_eq!(unanswered.verdict, Verdict::Drop(TooBigUnanswered));
        assert_eq!(unanswered.output, frame, "a dropped frame is untouched");
        assert_eq!(unanswered.counted, [dropped(TooBigUnanswered, 1)].into());
        host.wait(Duration::from_nanos(Budget::WINDOW));
    }
}

#[test]
fn the_kernels_budget_is_as_large() {
    const FRAMES: u64 = 200;
    Kernel::run_in_namespace(|kernel| {
        let (frame, _) = too_long(Flow::all().next().expect("a flow"));
        let mut answered = 0;
        for _ in 0..FRAMES {
            let seen = kernel.run(&LAN, &frame);
            let reason = match seen.verdict {
                Verdict::Transmit => {
                    answered += 1;
                    TooBig
                }
                Verdict::Drop(reason) => reason,
                other => panic!("too long, but {other:?}"),
            };
            assert!(matches!(reason, TooBig | TooBigUnanswered), "{reason:?}");
            assert_eq!(seen.counted, [dropped(reason, 1)].into());
        }
        // On how many CPUs and in how many windows this test ran is not known.
        assert!(answered >= Budget::ERRORS, "{answered} of {FRAMES}");
    });
}

#[test]
fn the_kernels_budget_ends() {
    /// Enough in one window, one after another without reading counters, on any machine.
    const FRAMES: u64 = 100_000;
    Kernel::run_in_namespace(|kernel| {
        let (frame, _) = too_long(Flow::all().next().expect("a flow"));
        let dropped = (0..FRAMES)
            .any(|_| kernel.run_uncounted(&LAN, &frame).0 == crate::backend::action::DROP);
        assert!(dropped, "{FRAMES} errors");
    });
}

#[test]
fn without_room_for_an_outer_header_a_packet_is_dropped_untouched() {
    let mut roomy = Host::new();
    for headroom in [0, 19, 20, 39, 40] {
        let mut host = Host::with(&config(Sources::Spread), headroom);
        for (flow, service) in Flow::all().flat_map(|flow| tunnels().map(move |it| (flow, it))) {
            let frame = Segment::to(flow, service, service.port()).frame();
            let seen = host.run(&LAN, &frame);
            let expected = if headroom < service.overhead() {
                Observed {
                    verdict: Verdict::Drop(NoHeadroom),
                    output: frame,
                    counted: [dropped(NoHeadroom, 1)].into(),
                }
            } else {
                roomy.run(&LAN, &frame)
            };
            assert_eq!(seen, expected, "{flow} ({service}), {headroom} bytes");
        }
    }
}

#[test]
fn l2_dsr_needs_no_room() {
    let (mut host, mut roomy) = (Host::with(&config(Sources::Spread), 0), Host::new());
    for flow in Flow::all() {
        let frame = Segment::to(flow, &NEAR, 80).frame();
        assert_eq!(host.run(&LAN, &frame), roomy.run(&LAN, &frame), "{flow}");
    }
}
