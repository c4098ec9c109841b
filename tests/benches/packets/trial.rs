//! A case on its balancer: how it is timed, and how it is known that the work was done.

use anyhow::{Result, ensure};

use crate::{
    balancer::Counts,
    case::{Becomes, Case, Job, What},
    program::{Last, Measured, Programs, Run},
};

/// `enum xdp_action` (linux/bpf.h).
pub const PASS: u32 = 2;
pub const TX: u32 = 3;

pub struct Trial<'a> {
    pub case: &'a Case,
    pub measured: Measured<'a>,
    pub programs: &'a mut Programs,
}

/// What became of the packets of a slice or a proof.
#[derive(Debug)]
pub struct Done {
    /// How many there were.
    pub packets: u64,
    /// How many were changed, of so many that were looked at again.
    pub changed: [u64; 2],
    /// What the program returned for the last one.
    pub action: u32,
    pub counts: Counts,
}

impl Trial<'_> {
    /// Nanoseconds for a packet, net of what the stream of packets costs. `next` is the number of a packet that was not sent
    /// before, and after it.
    pub fn slice(&mut self, next: &mut u64) -> Result<f64> {
        let Case {
            batches, packets, ..
        } = *self.case;
        let mut time = 0.;
        let mut before = None;
        let mut done = Done {
            packets: 0,
            changed: [0; 2],
            action: 0,
            counts: Counts::default(),
        };
        for _ in 0..batches {
            let traffic = self.case.traffic.starting_at(*next);
            let empty = self.programs.run(Measured::Nothing, &traffic, packets)?;
            self.prepare()?;
            if before.is_none() {
                before = Some(self.counts()?);
            }
            let Run {
                time: measured,
                made,
                changed,
                last,
            } = self.programs.run(self.measured, &traffic, packets)?;
            time += measured - empty.time;
            *next += made;
            done.packets += made;
            done.changed[0] += changed;
            done.changed[1] += made - 1;
            done.action = last.action;
        }
        done.counts = self.counts()? - before.unwrap_or_default();
        self.check(&done, done.packets)?;
        Ok(time / (f64::from(batches) * f64::from(packets)))
    }

    /// Brings the balancer into the state that the case is about.
    pub fn prepare(&mut self) -> Result<()> {
        let (Measured::Balancer(balancer), What::Balancer(job)) = (self.measured, &self.case.what)
        else {
            return Ok(());
        };
        balancer.forget_sessions(self.case.family);
        for traffic in &job.before {
            self.programs.run(self.measured, traffic, traffic.flows())?;
        }
        Ok(())
    }

    /// What becomes of the packet with this number.
    pub fn one(&mut self, number: u64) -> Result<Last> {
        self.programs.one(self.measured, &self.case.traffic, number)
    }

    /// All that the balancer has done so far.
    pub fn counts(&self) -> Result<Counts> {
        match self.measured {
            Measured::Balancer(balancer) => balancer.counts(),
            _ => Ok(Counts::default()),
        }
    }

    /// Makes sure that each packet took the path that is to be measured. Packets of `flows` were not sent before.
    pub fn check(&self, done: &Done, flows: u64) -> Result<()> {
        let Done {
            packets,
            changed: [changed, seen],
            action,
            counts,
        } = *done;
        let few = packets / 100;
        let is_right = match &self.case.what {
            What::Transmit | What::Encapsulate => action == TX && changed == seen,
            What::Balancer(Job {
                becomes: Becomes::Passed,
                ..
            }) => action == PASS && changed == 0 && counts.forwarded == 0 && counts.sessions == 0,
            What::Balancer(Job { becomes, .. }) => {
                let is_forwarded = action == TX && changed == seen && counts.forwarded == packets;
                is_forwarded
                    && match becomes {
                        // A few of a million have lost their place in the table to others.
                        Becomes::Passed | Becomes::Forwarded => counts.sessions <= few,
                        Becomes::NewSession => counts.sessions == flows && counts.evicted <= few,
                        // New ones take each other's places, too.
                        Becomes::Eviction => {
                            counts.sessions >= flows && counts.evicted >= counts.sessions - few
                        }
                    }
            }
        };
        ensure!(
            is_right && counts.dropped == 0 && counts.unrecorded == 0,
            "{}: not all of {packets} packets of {flows} flows became what is to be measured: {done:?}",
            self.case.name
        );
        Ok(())
    }
}
