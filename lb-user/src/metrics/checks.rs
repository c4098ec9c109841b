//! What health checks have brought.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use crate::health::{Failure, Outcome};

/// Seconds: from an ARP on the segment to an HTTP request that is nearly too late. There are few, because each is a series for
/// each check of each real server.
const LATENCIES: [f64; 7] = [0.000_5, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0];

/// Which checks are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckLabels {
    /// The virtual server that asks for them.
    pub virtual_server: String,
    /// Who is checked.
    pub real_server: String,
    /// What is sent: `arp`, `http`.
    pub check: String,
}

/// What checks of one kind have brought.
#[derive(Clone, Debug)]
pub struct CheckMetrics {
    /// The right answer came.
    pub passed: Counter,
    /// It did not.
    pub failed: Counter,
    /// This host could not send the check.
    pub unsent: Counter,
    /// In seconds, of those that passed.
    pub latency: Histogram,
}

impl Default for CheckMetrics {
    fn default() -> Self {
        Self {
            passed: Counter::default(),
            failed: Counter::default(),
            unsent: Counter::default(),
            latency: Histogram::new(LATENCIES),
        }
    }
}

impl CheckMetrics {
    fn record(&self, outcome: &Outcome) {
        let counter = match outcome {
            Ok(latency) => {
                if let Some(latency) = latency {
                    self.latency.observe(latency.as_secs_f64());
                }
                &self.passed
            }
            Err(Failure::Unsent(_)) => &self.unsent,
            Err(_) => &self.failed,
        };
        counter.inc();
    }
}

/// What all checks have brought.
#[derive(Clone, Debug, Default)]
pub struct AllCheckMetrics(pub BTreeMap<CheckLabels, CheckMetrics>);

impl AllCheckMetrics {
    /// Counts an outcome.
    pub fn record(&mut self, labels: CheckLabels, outcome: &Outcome) {
        self.0.entry(labels).or_default().record(outcome);
    }

    /// Forgets all checks but these.
    pub fn retain(&mut self, checks: &BTreeSet<CheckLabels>) {
        self.0.retain(|labels, _| checks.contains(labels));
    }
}
