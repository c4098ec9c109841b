//! What one frame should become, and whether it does.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use lb_common::{Counters, DropReason, SessionEvent};
use lb_ebpf::Verdict;
use lb_fuzz::oracle;

use crate::{
    backend::{Backend, Observed},
    fixture::{LAN, Port, Service},
    frames::{Flow, Segment},
    outer, report,
};

/// What counters went up, and by how much. Drops have no bytes.
pub type Counted = BTreeMap<String, Counters>;

/// A frame, what came before it, and what should become of it.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub ingress: &'static Port,
    /// Frames that came in before by the same interface.
    pub before: Vec<Vec<u8>>,
    /// How long ago they did. The kernel's clock can't be set.
    pub waited: Duration,
    pub input: Vec<u8>,
    pub outcome: Outcome,
}

/// What should become of a frame.
#[derive(Debug)]
pub enum Outcome {
    /// It belongs to the kernel, and nothing is counted.
    Passed,
    /// It goes nowhere, for a reason that is counted.
    Dropped(DropReason),
    /// This goes out of the interface that it came in by; if that is because the frame was dropped, this is why.
    Answered(Vec<u8>, Option<DropReason>),
    /// It goes to a service's server.
    Forwarded(&'static Service, Flow),
    /// It goes where this one of the frames before it went: to one of several servers.
    Followed(usize),
}

impl Case {
    fn new(name: impl Display, input: Vec<u8>, outcome: Outcome) -> Self {
        Self {
            name: name.to_string(),
            ingress: &LAN,
            before: Vec::new(),
            waited: Duration::ZERO,
            input,
            outcome,
        }
    }

    /// It belongs to the kernel, and nothing is counted.
    pub fn passed(name: impl Display, input: Vec<u8>) -> Self {
        Self::new(name, input, Outcome::Passed)
    }

    /// As [`Case::passed`]; the name says of which flow.
    pub fn segment_passed(what: impl Display, segment: &Segment) -> Self {
        Self::passed(format!("{}: {what}", segment.flow), segment.frame())
    }

    /// It goes to the service's server.
    pub fn forwarded(what: impl Display, segment: &Segment, service: &'static Service) -> Self {
        Self::frame_forwarded(what, segment.frame(), segment.flow, service)
    }

    /// As [`Case::forwarded`], for a frame that belongs to a flow in its own way.
    pub fn frame_forwarded(
        what: impl Display,
        input: Vec<u8>,
        flow: Flow,
        service: &'static Service,
    ) -> Self {
        let name = format!("{flow}: {what} ({service})");
        Self::new(name, input, Outcome::Forwarded(service, flow))
    }

    /// The program answers in the place of the VIP's owner. Nothing is counted.
    pub fn answered(name: impl Display, question: Vec<u8>, answer: Vec<u8>) -> Self {
        Self::new(name, question, Outcome::Answered(answer, None))
    }

    /// It is too big, and the program says so.
    pub fn refused(name: impl Display, input: Vec<u8>, error: Vec<u8>) -> Self {
        let outcome = Outcome::Answered(error, Some(DropReason::TooBig));
        Self::new(name, input, outcome)
    }

    /// It goes nowhere, for a reason that is counted.
    pub fn dropped(name: impl Display, input: Vec<u8>, reason: DropReason) -> Self {
        Self::new(name, input, Outcome::Dropped(reason))
    }

    /// It goes to the server that one of the frames `before` it went to.
    pub fn followed(
        name: impl Display,
        before: Vec<Vec<u8>>,
        which: usize,
        input: Vec<u8>,
    ) -> Self {
        Self::new(name, input, Outcome::Followed(which)).after(before)
    }

    /// The same, by another interface.
    pub fn by(self, ingress: &'static Port) -> Self {
        Self { ingress, ..self }
    }

    /// The same, after these frames.
    pub fn after(self, before: Vec<Vec<u8>>) -> Self {
        Self { before, ..self }
    }

    /// The same, so long after the frames before it.
    pub fn later(self, waited: Duration) -> Self {
        Self { waited, ..self }
    }

    /// What is wrong with what becomes of it, if anything is.
    fn complaint(&self, backend: &mut impl Backend) -> Option<String> {
        backend.forget();
        let mut leader = None;
        for (index, frame) in self.before.iter().enumerate() {
            if matches!(self.outcome, Outcome::Followed(which) if which == index) {
                leader = Some(backend.run(self.ingress, frame));
            } else {
                backend.feed(self.ingress, frame);
            }
        }
        backend.wait(self.waited);
        let seen = backend.run(self.ingress, &self.input);
        let expected = self.expected(leader.as_ref(), &seen.output);
        let mut complaints = Vec::new();
        if seen.verdict != expected.verdict {
            complaints.push(format!(
                "expected {:?}, seen {:?}",
                expected.verdict, seen.verdict
            ));
        }
        let is_dropped = |verdict| matches!(verdict, Verdict::Drop(_));
        let goes_on = !is_dropped(expected.verdict) && !is_dropped(seen.verdict);
        if goes_on && seen.output != expected.output {
            complaints.push(report::difference(&expected.output, &seen.output));
        }
        if seen.counted != expected.counted {
            complaints.push(format!(
                "expected counters {:?}, seen {:?}",
                expected.counted, seen.counted
            ));
        }
        // What is forwarded stays as malformed as it came.
        if matches!(seen.verdict, Verdict::Transmit | Verdict::Redirect(_))
            && oracle::check(&self.input).is_ok()
            && let Err(error) = oracle::check(&seen.output)
        {
            complaints.push(format!("what went out is malformed: {error}"));
        }
        (!complaints.is_empty()).then(|| {
            let (name, ingress) = (&self.name, self.ingress.name);
            let input = report::headers(&self.input);
            format!("{name} (by {ingress})\n{input}{}", complaints.join("\n"))
        })
    }

    /// What should be seen, given what was seen of the frame that it follows. Of its own output this takes only what
    /// the program may choose.
    fn expected(&self, leader: Option<&Observed>, seen: &[u8]) -> Observed {
        let input = &self.input;
        match &self.outcome {
            Outcome::Passed => Observed {
                verdict: Verdict::Pass,
                output: input.clone(),
                counted: Counted::new(),
            },
            Outcome::Dropped(reason) => Observed {
                verdict: Verdict::Drop(*reason),
                output: Vec::new(),
                counted: [dropped(*reason, 1)].into(),
            },
            Outcome::Answered(answer, reason) => Observed {
                verdict: Verdict::Transmit,
                output: answer.clone(),
                counted: reason.iter().map(|reason| dropped(*reason, 1)).collect(),
            },
            Outcome::Forwarded(service, flow) => {
                let Service { server, .. } = service;
                let macs = [server.mac, server.port.mac];
                Observed {
                    verdict: if server.port == self.ingress {
                        Verdict::Transmit
                    } else {
                        Verdict::Redirect(server.port.ifindex)
                    },
                    output: match service.tunnel_to(*flow) {
                        None => readdressed(input, &macs.concat()),
                        Some(address) => outer::encapsulated(input, macs, address, seen),
                    },
                    counted: self.counted([service.binding(*flow)]),
                }
            }
            Outcome::Followed(which) => {
                let leader = leader.expect("a frame that it follows");
                let verdict = leader.verdict;
                assert!(
                    matches!(verdict, Verdict::Transmit | Verdict::Redirect(_)),
                    "{}: what it follows was not forwarded: {verdict:?}",
                    self.name
                );
                Observed {
                    verdict,
                    output: match outer::destination(&self.before[*which], &leader.output) {
                        None => readdressed(input, &leader.output[..12]),
                        Some((macs, address)) => outer::encapsulated(input, macs, address, seen),
                    },
                    counted: self.counted(leader.counted.keys().cloned()),
                }
            }
        }
    }

    /// What is counted of a forwarded frame: all but the padding.
    fn counted(&self, names: impl IntoIterator<Item = String>) -> Counted {
        let place = outer::place(&self.input).expect("an IP packet in a frame");
        let counters = Counters {
            packets: 1,
            bytes: place.end as u64,
            ..Counters::default()
        };
        names.into_iter().map(|name| (name, counters)).collect()
    }
}

/// What a counter of what happened to the session table goes up by.
pub fn happened(event: SessionEvent, packets: u64) -> (String, Counters) {
    let name = format!("sessions: {}", event.name());
    let counters = Counters {
        packets,
        ..Counters::default()
    };
    (name, counters)
}

/// The frame with other MAC addresses.
fn readdressed(frame: &[u8], macs: &[u8]) -> Vec<u8> {
    [macs, &frame[12..]].concat()
}

/// What a counter of drops goes up by.
pub fn dropped(reason: DropReason, packets: u64) -> (String, Counters) {
    let name = format!("drops: {}", reason.name());
    let counters = Counters {
        packets,
        ..Counters::default()
    };
    (name, counters)
}

/// Runs every case that the backend can carry, and fails with all that went wrong.
pub fn check(backend: &mut impl Backend, cases: Vec<Case>) {
    const SHOWN: usize = 10;
    let fitting: Vec<Case> = cases
        .into_iter()
        .filter(|case| backend.takes(case))
        .collect();
    assert!(!fitting.is_empty(), "no cases");
    let complaints: Vec<String> = fitting
        .iter()
        .filter_map(|case| case.complaint(backend))
        .collect();
    assert!(
        complaints.is_empty(),
        "{} of {} cases failed, the first of them:\n\n{}\n",
        complaints.len(),
        fitting.len(),
        complaints[..complaints.len().min(SHOWN)].join("\n\n")
    );
}
