//! What one frame should become, and whether it does.

use std::{collections::BTreeMap, fmt::Display, iter::once};

use lb_common::{Counters, DropReason};
use lb_ebpf::Verdict;

use crate::{
    backend::{Backend, Observed},
    fixture::{LAN, Port, Service},
    frames::Segment,
    oracle, report,
};

/// What counters went up, and by how much. Drops have no bytes.
pub type Counted = BTreeMap<String, Counters>;

/// A frame, and what should become of it.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub ingress: &'static Port,
    pub input: Vec<u8>,
    pub verdict: Verdict,
    pub output: Vec<u8>,
    pub counted: Counted,
}

impl Case {
    /// It belongs to the kernel, and nothing is counted.
    pub fn passed(name: impl Display, input: Vec<u8>) -> Self {
        Self {
            name: name.to_string(),
            ingress: &LAN,
            output: input.clone(),
            input,
            verdict: Verdict::Pass,
            counted: Counted::new(),
        }
    }

    /// As [`Case::passed`]; the name says of which flow.
    pub fn segment_passed(what: impl Display, segment: &Segment) -> Self {
        Self::passed(format!("{}: {what}", segment.flow), segment.frame())
    }

    /// It goes to the service's server by L2 DSR: from the egress interface's MAC address to the server's, else
    /// as it is.
    pub fn forwarded(what: impl Display, segment: &Segment, service: &Service) -> Self {
        Self::frame_forwarded(what, segment.frame(), segment, service)
    }

    /// As [`Case::forwarded`], for a frame that was made from the segment.
    pub fn frame_forwarded(
        what: impl Display,
        input: Vec<u8>,
        segment: &Segment,
        service: &Service,
    ) -> Self {
        let flow = segment.flow;
        let server = service.server;
        let counters = Counters {
            packets: 1,
            bytes: input.len() as u64,
        };
        Self {
            name: format!("{flow}: {what}"),
            ingress: &LAN,
            verdict: if *server.port == LAN {
                Verdict::Transmit
            } else {
                Verdict::Redirect(server.port.ifindex)
            },
            output: [&server.mac, &server.port.mac, &input[12..]].concat(),
            counted: [service.name(flow), service.binding(flow)]
                .map(|counter| (counter, counters))
                .into(),
            input,
        }
    }

    /// The program answers in the place of the VIP's owner. Nothing is counted.
    pub fn answered(name: impl Display, question: Vec<u8>, answer: Vec<u8>) -> Self {
        Self {
            verdict: Verdict::Transmit,
            output: answer,
            ..Self::passed(name, question)
        }
    }

    /// It goes nowhere, for a reason that is counted.
    pub fn dropped(name: impl Display, input: Vec<u8>, reason: DropReason) -> Self {
        Self {
            verdict: Verdict::Drop(reason),
            counted: once(dropped(reason, 1)).collect(),
            ..Self::passed(name, input)
        }
    }

    /// What is wrong with what was seen, if anything is.
    fn complaint(&self, seen: &Observed) -> Option<String> {
        let mut complaints = Vec::new();
        if seen.verdict != self.verdict {
            complaints.push(format!(
                "expected {:?}, seen {:?}",
                self.verdict, seen.verdict
            ));
        }
        let is_dropped = |verdict| matches!(verdict, Verdict::Drop(_));
        if !is_dropped(self.verdict) && !is_dropped(seen.verdict) && seen.output != self.output {
            complaints.push(report::difference(&self.output, &seen.output));
        }
        if seen.counted != self.counted {
            complaints.push(format!(
                "expected counters {:?}, seen {:?}",
                self.counted, seen.counted
            ));
        }
        if matches!(seen.verdict, Verdict::Transmit | Verdict::Redirect(_))
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
}

/// What a counter of drops goes up by.
pub fn dropped(reason: DropReason, packets: u64) -> (String, Counters) {
    let name = format!("drops: {}", reason.name());
    (name, Counters { packets, bytes: 0 })
}

/// Runs every case that the backend can carry, and fails with all that went wrong.
pub fn check(backend: &mut impl Backend, cases: Vec<Case>) {
    const SHOWN: usize = 10;
    let fitting: Vec<Case> = cases
        .into_iter()
        .filter(|case| backend.takes(&case.input))
        .collect();
    assert!(!fitting.is_empty(), "no cases");
    let complaints: Vec<String> = fitting
        .iter()
        .filter_map(|case| case.complaint(&backend.run(case.ingress, &case.input)))
        .collect();
    assert!(
        complaints.is_empty(),
        "{} of {} cases failed, the first of them:\n\n{}\n",
        complaints.len(),
        fitting.len(),
        complaints[..complaints.len().min(SHOWN)].join("\n\n")
    );
}
