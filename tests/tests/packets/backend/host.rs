//! The packet logic, compiled for this process.

use std::time::{Duration, Instant};

use lb_fuzz::memory::{Balancer, Buffer, Counter, NoKernel, Seen};
use lb_user::{config::Config, control::Desired, dataplane::Tables};

use super::{Backend, Observed};
use crate::{
    case::Case,
    fixture::{self, CounterNames, Port, Sources},
};

/// The library `lb_ebpf`.
pub struct Host {
    balancer: Balancer,
    names: CounterNames,
}

impl Host {
    pub fn new() -> Self {
        Self::of(&fixture::config(Sources::Spread))
    }

    /// With another configuration.
    pub fn of(config: &Config) -> Self {
        Self::with(config, Buffer::HEADROOM)
    }

    /// With another configuration, and packets that have so many bytes of room in front.
    pub fn with(config: &Config, headroom: usize) -> Self {
        let tables = Tables::anonymous(&fixture::sizes(config)).expect("memory");
        let reconciler = fixture::reconcile(tables, NoKernel, config);
        Self {
            names: CounterNames::new(&reconciler, config),
            balancer: Balancer::new(reconciler, headroom),
        }
    }

    /// Lets all packets go the whole path.
    pub fn without_shortcut(self) -> Self {
        Self {
            balancer: self.balancer.without_shortcut(),
            ..self
        }
    }
}

impl Backend for Host {
    fn takes(&self, _case: &Case) -> bool {
        true
    }

    fn run(&mut self, ingress: &Port, frame: &[u8]) -> Observed {
        let Seen {
            verdict,
            output,
            counted,
        } = self.balancer.run(ingress, frame);
        let name = |counter| match counter {
            Counter::Binding(index) => self.names.binding(index),
            Counter::Drop(reason) => format!("drops: {reason}"),
            Counter::Event(event) => format!("sessions: {event}"),
        };
        let counted = counted
            .into_iter()
            .map(|(counter, counters)| (name(counter), counters));
        Observed {
            verdict,
            output,
            counted: counted.collect(),
        }
    }

    fn feed(&mut self, ingress: &Port, frame: &[u8]) {
        self.balancer.run(ingress, frame);
    }

    fn forget(&mut self) {
        self.balancer.forget();
        fixture::forget_sessions(self.balancer.reconciler());
    }

    fn reconcile_after(&mut self, wanted: &Desired, time: Duration) {
        let now = Instant::now() + time;
        let applied = self.balancer.reconciler_mut().apply_at(wanted, now);
        applied.expect("the tables have room");
    }

    fn active(&self, virtual_server: &str, server: &str) -> u64 {
        fixture::active(self.balancer.reconciler(), virtual_server, server)
    }

    fn wait(&mut self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).expect("less than centuries");
        self.balancer.set_now(self.balancer.now() + time);
    }
}
