//! What the schema knows and the balancer can't do yet. It is checked for its shape and refused,
//! never ignored.
//!
//! To lift a refusal: delete the line here that says so, or give the word its `Some`.

use std::fmt::Display;

use serde_yaml::Spanned;

use super::error::Diagnostics;
use super::model;
use super::schema::{
    Check, CheckEntry, File, Forward, Health, Metrics, Predictor, Session, SessionMode, Sticky,
    VirtualServer,
};
use super::value::{Entry, Field, Word};

/// Sections and keys of the whole file.
pub fn file(file: &File, errors: &mut Diagnostics) {
    if let Some(metrics) = &file.metrics {
        self::metrics(metrics, errors);
    }
    if let Some(limits) = &file.limits {
        refuse("limits.sessions", &limits.sessions, errors);
    }
}

/// Sections and keys of a virtual server or of `defaults`.
pub fn virtual_server(virtual_server: &VirtualServer, errors: &mut Diagnostics) {
    if let Some(session) = &virtual_server.session {
        self::session(session, errors);
    }
    if let Some(sticky) = &virtual_server.sticky {
        self::sticky(sticky, errors);
    }
    if let Some(health) = &virtual_server.health {
        self::health(health, errors);
    }
}

/// The word, if it is right and can be done.
pub fn forward(
    field: &Option<Field<Word<Forward>>>,
    errors: &mut Diagnostics,
) -> Option<model::Forward> {
    supported("forward", field, errors, |word| match word {
        Forward::L2dsr => Some(model::Forward::L2dsr),
        Forward::L3dsr => Some(model::Forward::L3dsr),
        Forward::Nat | Forward::Fullnat => None,
    })
}

/// The word, if it is right and can be done.
pub fn predictor(
    field: &Option<Field<Word<Predictor>>>,
    errors: &mut Diagnostics,
) -> Option<model::Predictor> {
    supported("predictor", field, errors, |word| match word {
        Predictor::Hash => Some(model::Predictor::Hash),
        Predictor::SourceHash
        | Predictor::RoundRobin
        | Predictor::LeastConnection
        | Predictor::ResponseTime => None,
    })
}

fn session(session: &Session, errors: &mut Diagnostics) {
    supported("session.mode", &session.mode, errors, |word| match word {
        SessionMode::Stateless => Some(()),
        SessionMode::Stateful => None,
    });
    refuse("session.idle_timeout", &session.idle_timeout, errors);
    refuse("session.on_unknown", &session.on_unknown, errors);
}

/// What `model` makes of the word; `None` for one that can't be done.
fn supported<W: Copy + Display, T>(
    key: &str,
    field: &Option<Field<Word<W>>>,
    errors: &mut Diagnostics,
    model: impl Fn(W) -> Option<T>,
) -> Option<T> {
    let Word(word) = *errors.value(key, field)?;
    let supported = model(word);
    if let (None, Some(field)) = (&supported, field) {
        errors.add(field, format!("{key}: {word} is not supported yet"));
    }
    supported
}

fn refuse<T>(key: &str, field: &Option<Field<T>>, errors: &mut Diagnostics) {
    errors.value(key, field);
    if let Some(field) = field {
        errors.add(field, format!("{key} is not supported yet"));
    }
}

fn metrics(metrics: &Spanned<Metrics>, errors: &mut Diagnostics) {
    errors.add(metrics, "metrics is not supported yet");
    errors.required(metrics, "metrics.listen", &metrics.value.listen);
}

fn sticky(sticky: &Spanned<Sticky>, errors: &mut Diagnostics) {
    errors.add(sticky, "sticky is not supported yet");
    errors.value("sticky.timeout", &sticky.value.timeout);
    errors.value("sticky.prefix_v4", &sticky.value.prefix_v4);
    errors.value("sticky.prefix_v6", &sticky.value.prefix_v6);
}

fn health(health: &Spanned<Health>, errors: &mut Diagnostics) {
    errors.add(health, "health is not supported yet");
    let health = &health.value;
    errors.value("health.interval", &health.interval);
    errors.value("health.timeout", &health.timeout);
    errors.value("health.rise", &health.rise);
    errors.value("health.fall", &health.fall);
    for entry in health.checks.iter().flatten() {
        check(entry, errors);
    }
}

fn check(entry: &CheckEntry, errors: &mut Diagnostics) {
    let Check { icmp, syn, http } = match &entry.value {
        Entry::Long(check) => check,
        Entry::Short(kind) => {
            errors.parsed(entry, "check", kind);
            return;
        }
    };
    let kinds = [icmp.is_some(), syn.is_some(), http.is_some()];
    if kinds.into_iter().filter(|&present| present).count() != 1 {
        errors.add(
            entry,
            "check: expected one kind with its options, such as `syn: { port: 80 }`",
        );
    }
    if let Some(icmp) = icmp {
        errors.value("icmp.via", &icmp.via);
    }
    if let Some(syn) = syn {
        errors.value("syn.port", &syn.port);
        errors.value("syn.via", &syn.via);
    }
    if let Some(http) = http {
        errors.value("http.path", &http.path);
        errors.value("http.host", &http.host);
        errors.value("http.status", &http.status);
        errors.value("http.body", &http.body);
        errors.value("http.tls", &http.tls);
        errors.value("http.port", &http.port);
        errors.value("http.via", &http.via);
    }
}
