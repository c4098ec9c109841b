//! What the schema knows and the balancer can't do yet. It is checked for its shape and refused,
//! never ignored.
//!
//! To lift a refusal: delete the line here that says so, or give the word its `Some`.

use std::fmt::Display;

use serde_yaml::Spanned;

use super::check::{HealthCheck, IcmpCheck, Via};
use super::error::Diagnostics;
use super::model;
use super::schema::{Check, CheckEntry, CheckKind, File, Forward, Metrics, Predictor};
use super::value::{Entry, Field, Word};

/// Sections and keys of the whole file.
pub fn file(file: &File, errors: &mut Diagnostics) {
    if let Some(metrics) = &file.metrics {
        self::metrics(metrics, errors);
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
        Predictor::SourceHash => Some(model::Predictor::SourceHash),
        Predictor::RoundRobin => Some(model::Predictor::RoundRobin),
        Predictor::LeastConnection => Some(model::Predictor::LeastConnection),
        Predictor::ResponseTime => Some(model::Predictor::ResponseTime),
    })
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

fn metrics(metrics: &Spanned<Metrics>, errors: &mut Diagnostics) {
    errors.add(metrics, "metrics is not supported yet");
    errors.required(metrics, "metrics.listen", &metrics.value.listen);
}

/// The check, if it is right and can be done.
pub fn check(entry: &CheckEntry, errors: &mut Diagnostics) -> Option<HealthCheck> {
    let not_yet =
        |what: &str| format!("check: {what} is not supported yet: `icmp: {{ via: real }}` is");
    let Check { icmp, syn, http } = match &entry.value {
        Entry::Long(check) => check,
        Entry::Short(kind) => {
            let Word(kind) = errors.parsed(entry, "check", kind)?;
            let what = match kind {
                CheckKind::Icmp => "icmp via vip".to_owned(),
                CheckKind::Arp | CheckKind::Syn | CheckKind::Http => kind.to_string(),
            };
            errors.add(entry, not_yet(&what));
            return None;
        }
    };
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
    let problem = match (icmp, syn, http) {
        (Some(icmp), None, None) => match via(&icmp.via, errors)? {
            Via::Real => {
                return Some(HealthCheck::Icmp(IcmpCheck {
                    via: Via::Real,
                    size: None,
                }));
            }
            Via::Vip => not_yet("icmp via vip"),
        },
        (None, Some(_), None) => not_yet("syn"),
        (None, None, Some(_)) => not_yet("http"),
        _ => "check: expected one kind with its options, such as `syn: { port: 80 }`".to_owned(),
    };
    errors.add(entry, problem);
    None
}

/// Where a check goes that may say so; `None` if what it says is wrong.
fn via(field: &Option<Field<Word<Via>>>, errors: &mut Diagnostics) -> Option<Via> {
    match field {
        None => Some(Via::default()),
        Some(_) => errors.value("icmp.via", field).map(|Word(via)| *via),
    }
}
