//! Metrics: what `lb status` tells, and what health checks have brought, as text for Prometheus.

mod checks;
pub mod endpoint;
mod families;

pub use checks::{AllCheckMetrics, CheckLabels, CheckMetrics};
pub use endpoint::Endpoint;

use prometheus_client::{encoding::text, registry::Registry};

use crate::api::Status;

/// All that a scrape tells.
#[derive(Debug)]
pub struct Snapshot {
    /// What `lb status --json` says at that moment.
    pub status: Status,
    /// What health checks have brought since the daemon started.
    pub checks: AllCheckMetrics,
}

/// The media type of [`text()`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics in the text format of OpenMetrics, which is that of Prometheus and an end mark.
pub fn text(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a string takes everything");
    text
}

#[cfg(test)]
mod tests;
