//! The keys that `defaults` and a virtual server both have, and how the two merge.

use std::time::Duration;

use super::checks::{self, WrittenCheck};
use super::duration::{Within, WithinOrNone};
use super::error::{Diagnostics, Position};
use super::model::{Forward, OnDown, OnUnknown, Predictor, Protocol, SessionMode};
use super::value::{Entry, Field, Number, Word};
use super::{schema, unsupported};

/// What is written of the keys; `None` where nothing is.
#[derive(Debug, Default, Clone)]
pub struct Settings {
    pub protocol: Option<Written<Protocol>>,
    pub forward: Option<Written<Forward>>,
    pub predictor: Option<Written<Predictor>>,
    pub session: SessionSettings,
    /// `None` as the value is the word `none`.
    pub sticky: Option<Written<Option<StickySettings>>>,
    /// `None` as the value is the word `none`.
    pub slow_start: Option<Written<Option<Duration>>>,
    pub minimum_up: Option<Written<u32>>,
    pub health: HealthSettings,
}

/// What is written of the section `session`.
#[derive(Debug, Default, Clone, Copy)]
pub struct SessionSettings {
    pub mode: Option<Written<SessionMode>>,
    pub idle_timeout: Option<Written<Duration>>,
    pub on_unknown: Option<Written<OnUnknown>>,
    pub on_down: Option<Written<OnDown>>,
    pub settle: Option<Written<Duration>>,
}

/// What is written of the section `sticky`.
#[derive(Debug, Default, Clone, Copy)]
pub struct StickySettings {
    pub timeout: Option<Written<Duration>>,
    pub prefix_v4: Option<Written<u8>>,
    pub prefix_v6: Option<Written<u8>>,
}

/// What is written of the section `health`.
#[derive(Debug, Default, Clone)]
pub struct HealthSettings {
    pub interval: Option<Written<Duration>>,
    pub timeout: Option<Written<Duration>>,
    pub rise: Option<Written<u32>>,
    pub fall: Option<Written<u32>>,
    pub checks: Option<Written<Vec<WrittenCheck>>>,
}

/// A value in the file.
#[derive(Debug, Clone, Copy)]
pub struct Written<T> {
    /// Where it is used.
    pub at: Position,
    /// `None` if it is wrong (recorded already).
    pub value: Option<T>,
}

/// The value that counts; `None` if a wrong one is written.
pub fn or_default<T>(written: Option<Written<T>>, default: T) -> Option<T> {
    match written {
        Some(Written { value, .. }) => value,
        None => Some(default),
    }
}

// === impl Settings ===

impl Settings {
    /// Reads the keys of a virtual server or of `defaults`, and records what is wrong in themselves.
    pub fn new(written: &schema::VirtualServer, errors: &mut Diagnostics) -> Self {
        let schema::VirtualServer {
            protocol,
            forward,
            predictor,
            session,
            sticky,
            slow_start,
            minimum_up,
            health,
            ..
        } = written;
        Self {
            protocol: read("protocol", protocol, errors, |Word(word)| *word),
            forward: forward.as_ref().map(|field| Written {
                at: Position::used(field),
                value: unsupported::forward(forward, errors),
            }),
            predictor: predictor.as_ref().map(|field| Written {
                at: Position::used(field),
                value: unsupported::predictor(predictor, errors),
            }),
            session: session
                .as_ref()
                .map(|session| SessionSettings::new(session, errors))
                .unwrap_or_default(),
            sticky: sticky.as_ref().map(|entry| Written {
                at: Position::used(entry),
                value: self::sticky(entry, errors),
            }),
            slow_start: read(
                "slow_start",
                slow_start,
                errors,
                |WithinOrNone(duration)| *duration,
            ),
            minimum_up: read("minimum_up", minimum_up, errors, |Number(number)| *number),
            health: health
                .as_ref()
                .map(|health| HealthSettings::new(health, errors))
                .unwrap_or_default(),
        }
    }

    /// Key by key, also inside the sections.
    pub fn or(self, defaults: Self) -> Self {
        Self {
            protocol: self.protocol.or(defaults.protocol),
            forward: self.forward.or(defaults.forward),
            predictor: self.predictor.or(defaults.predictor),
            session: self.session.or(defaults.session),
            sticky: match (self.sticky, defaults.sticky) {
                (
                    Some(Written {
                        at,
                        value: Some(Some(own)),
                    }),
                    Some(Written {
                        value: Some(Some(defaults)),
                        ..
                    }),
                ) => Some(Written {
                    at,
                    value: Some(Some(own.or(defaults))),
                }),
                (own, defaults) => own.or(defaults),
            },
            slow_start: self.slow_start.or(defaults.slow_start),
            minimum_up: self.minimum_up.or(defaults.minimum_up),
            health: self.health.or(defaults.health),
        }
    }
}

// === impl SessionSettings ===

impl SessionSettings {
    fn new(written: &schema::Session, errors: &mut Diagnostics) -> Self {
        let schema::Session {
            mode,
            idle_timeout,
            on_unknown,
            on_down,
            settle,
        } = written;
        Self {
            mode: read("session.mode", mode, errors, |Word(word)| *word),
            idle_timeout: read(
                "session.idle_timeout",
                idle_timeout,
                errors,
                |Within(duration)| *duration,
            ),
            on_unknown: read("session.on_unknown", on_unknown, errors, |Word(word)| *word),
            on_down: read("session.on_down", on_down, errors, |Word(word)| *word),
            settle: read("session.settle", settle, errors, |Within(duration)| {
                *duration
            }),
        }
    }

    fn or(self, defaults: Self) -> Self {
        Self {
            mode: self.mode.or(defaults.mode),
            idle_timeout: self.idle_timeout.or(defaults.idle_timeout),
            on_unknown: self.on_unknown.or(defaults.on_unknown),
            on_down: self.on_down.or(defaults.on_down),
            settle: self.settle.or(defaults.settle),
        }
    }
}

// === impl StickySettings ===

impl StickySettings {
    fn new(written: &schema::Sticky, errors: &mut Diagnostics) -> Self {
        let schema::Sticky {
            timeout,
            prefix_v4,
            prefix_v6,
        } = written;
        Self {
            timeout: read("sticky.timeout", timeout, errors, |Within(duration)| {
                *duration
            }),
            prefix_v4: read("sticky.prefix_v4", prefix_v4, errors, |Number(bits)| *bits),
            prefix_v6: read("sticky.prefix_v6", prefix_v6, errors, |Number(bits)| *bits),
        }
    }

    fn or(self, defaults: Self) -> Self {
        Self {
            timeout: self.timeout.or(defaults.timeout),
            prefix_v4: self.prefix_v4.or(defaults.prefix_v4),
            prefix_v6: self.prefix_v6.or(defaults.prefix_v6),
        }
    }
}

// === impl HealthSettings ===

impl HealthSettings {
    fn new(written: &schema::Health, errors: &mut Diagnostics) -> Self {
        let schema::Health {
            interval,
            timeout,
            rise,
            fall,
            checks,
        } = written;
        Self {
            interval: read("health.interval", interval, errors, |Within(duration)| {
                *duration
            }),
            timeout: read("health.timeout", timeout, errors, |Within(duration)| {
                *duration
            }),
            rise: read("health.rise", rise, errors, |Number(count)| *count),
            fall: read("health.fall", fall, errors, |Number(count)| *count),
            checks: checks.as_ref().map(|checks| Written {
                at: Position::used(checks),
                value: checks::written(&checks.value, errors),
            }),
        }
    }

    fn or(self, defaults: Self) -> Self {
        Self {
            interval: self.interval.or(defaults.interval),
            timeout: self.timeout.or(defaults.timeout),
            rise: self.rise.or(defaults.rise),
            fall: self.fall.or(defaults.fall),
            checks: self.checks.or(defaults.checks),
        }
    }
}

fn sticky(entry: &schema::StickyEntry, errors: &mut Diagnostics) -> Option<Option<StickySettings>> {
    match &entry.value {
        Entry::Short(none) => errors.parsed(entry, "sticky", none).map(|_| None),
        Entry::Long(written) => Some(Some(StickySettings::new(written, errors))),
    }
}

fn read<P, T>(
    key: &str,
    field: &Option<Field<P>>,
    errors: &mut Diagnostics,
    take: impl Fn(&P) -> T,
) -> Option<Written<T>> {
    field.as_ref().map(|field| Written {
        at: Position::used(field),
        value: errors.parsed(field, key, &field.value).map(take),
    })
}
