//! What the schema knows and the balancer can't do yet. It is checked for its shape and refused,
//! never ignored.
//!
//! To lift a refusal: delete the line here that says so, or give the word its `Some`.

use std::fmt::Display;

use super::error::Diagnostics;
use super::model;
use super::schema::{Forward, Predictor};
use super::value::{Field, Word};

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
