//! How a virtual server's real servers are checked, from its settings to the model.

use std::time::Duration;

use super::checks::{self, Service};
use super::error::{Diagnostics, Position};
use super::model::{Health, Predictor};
use super::settings::{HealthSettings, Settings, Written, or_default};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
/// Or the interval, if that is shorter.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;

/// `None` if anything about it is wrong.
pub fn health(
    settings: &HealthSettings,
    service: Service<'_>,
    errors: &mut Diagnostics,
) -> Option<Health> {
    let checks = or_default(settings.checks.clone(), Vec::new())?;
    let checks = checks::resolved(&checks, service, errors);
    let interval = or_default(settings.interval, DEFAULT_INTERVAL)?;
    Some(Health {
        interval,
        timeout: or_default(settings.timeout, DEFAULT_TIMEOUT.min(interval))?,
        rise: or_default(settings.rise, DEFAULT_RISE)?,
        fall: or_default(settings.fall, DEFAULT_FALL)?,
        checks: checks?,
    })
}

/// Records what a virtual server says itself (`own`) that has no effect or can't be, given all that holds for
/// it (`settings`).
pub fn contradictions(own: &Settings, settings: &Settings, errors: &mut Diagnostics) {
    let health = &settings.health;
    let interval = or_default(health.interval, DEFAULT_INTERVAL);
    if let (
        Some(interval),
        Some(Written {
            at: merged,
            value: Some(timeout),
        }),
    ) = (interval, health.timeout)
        && timeout > interval
    {
        let position = at(&own.health.timeout).or(at(&own.health.interval));
        let problem = format!(
            "health.timeout: {timeout:?} is longer than the interval: expected at most {interval:?}"
        );
        errors.add(position.unwrap_or(merged), problem);
    }
    if !or_default(health.checks.clone(), Vec::new()).is_some_and(|checks| checks.is_empty()) {
        return;
    }
    let of_checks = [
        ("interval", at(&own.health.interval)),
        ("timeout", at(&own.health.timeout)),
        ("rise", at(&own.health.rise)),
        ("fall", at(&own.health.fall)),
    ];
    for (key, position) in of_checks {
        if let Some(position) = position {
            let problem = format!("health.{key} needs health.checks: add them, or remove it");
            errors.add(position, problem);
        }
    }
    if let Some(Written {
        at: merged,
        value: Some(Predictor::ResponseTime),
    }) = settings.predictor
    {
        let position = at(&own.predictor).or(at(&own.health.checks));
        let problem = "predictor: response_time needs a health check: add health.checks";
        errors.add(position.unwrap_or(merged), problem);
    }
}

fn at<T>(written: &Option<Written<T>>) -> Option<Position> {
    written.as_ref().map(|written| written.at)
}
