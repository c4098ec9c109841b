//! From YAML text to the schema, within bounds.

use serde_yaml::{Error, MessageFormatter, Spanned, UserMessageFormatter, budget, options};

use super::error::{Diagnostic, Position};
use super::schema::File;
use super::suggest::did_you_mean;

/// Reads the text as one [`File`].
///
/// # Errors
/// The first mistake in the YAML, or the first unknown or duplicate key.
pub fn parse(text: &str) -> Result<Spanned<File>, Diagnostic> {
    let options = options! {
        // The nodes of the largest file that is read; aliases count each time they are used.
        budget: budget! { max_events: 8_000_000, max_nodes: 4_000_000, max_depth: 32 },
        strict_booleans: true,
        // `010` is neither ten nor eight.
        leading_zero_numbers_as_strings: true,
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| diagnostic(&error))
}

fn diagnostic(error: &Error) -> Diagnostic {
    if let Error::AliasError { error, .. } = error {
        return diagnostic(error);
    }
    let position = error.location().map_or(Position::START, Position::from);
    Diagnostic::new(position, &message(error))
}

fn message(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            let suggestion = did_you_mean(field, expected.iter().copied());
            format!(
                "unknown key `{field}`: expected one of {}{suggestion}",
                expected.join(", ")
            )
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("duplicate key `{key}`: it is already set above")
        }
        Error::Unexpected {
            expected: "mapping start",
            ..
        } => "expected a mapping (`key: value`)".to_owned(),
        Error::Unexpected {
            expected: "sequence start",
            ..
        } => "expected a list (`- item` or `[item, item]`)".to_owned(),
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => "expected a name".to_owned(),
        Error::UnknownAnchor { .. } => "this alias has no anchor (`&name`) above it".to_owned(),
        error => UserMessageFormatter.format_message(error).into_owned(),
    }
}
