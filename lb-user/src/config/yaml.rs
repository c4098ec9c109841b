//! From YAML text to the schema, within bounds.

use serde::de::DeserializeOwned;
use serde_yaml::{Error, MessageFormatter, Spanned, UserMessageFormatter, budget, options};

use super::error::{Diagnostic, Position};
use super::schema::File;
use super::suggest::did_you_mean;
use super::value::Value;

/// Reads the text as one [`File`].
///
/// # Errors
/// The first mistake in the YAML, or the first unknown or duplicate key.
pub fn parse(text: &str) -> Result<Spanned<File>, Diagnostic> {
    read(text).map_err(|error| diagnostic(&error, text))
}

/// A name as it is written: in quotes, if it would be read as something else without.
pub fn quoted(name: &str) -> String {
    match read::<Value>(name) {
        Ok(Value::Text(text)) if text == name => text,
        _ => format!("\"{name}\""),
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
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
    serde_yaml::from_str_with_options(text, options)
}

fn diagnostic(error: &Error, text: &str) -> Diagnostic {
    match error {
        Error::AliasError { error, .. } => diagnostic(error, text),
        Error::ExternalMessage { .. } if let Some(tab) = indenting_tab(text) => Diagnostic::new(
            tab,
            "a tab in the indentation: YAML is indented with spaces",
        ),
        error => {
            let position = error.location().map_or(Position::START, Position::from);
            Diagnostic::new(position, &message(error))
        }
    }
}

/// The first tab that indents a line. It may be harmless (inside `[...]`), but in a text that can't be
/// parsed it is the likely reason.
fn indenting_tab(text: &str) -> Option<Position> {
    text.lines().zip(1..).find_map(|(content, line)| {
        let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
        let column = content[..indent].find('\t')? as u64 + 1;
        Some(Position { line, column })
    })
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
        Error::MultipleDocuments { .. } => {
            "expected one document: remove what follows `---`".to_owned()
        }
        Error::ExternalMessage { msg, .. } => format!("not YAML: {msg}"),
        Error::UnknownAnchor { .. } => "this alias has no anchor (`&name`) above it".to_owned(),
        error => UserMessageFormatter.format_message(error).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_something_else_is_in_quotes() {
        for name in ["web-1", "a.b", "_", "-a", "1.2.3.4", "010", "yes"] {
            assert_eq!(quoted(name), name);
        }
        for name in ["1", "1e3", "true", "null", "-", "---", ".5", "~"] {
            assert_eq!(read::<String>(&quoted(name)).unwrap(), name);
            assert_eq!(quoted(name), format!("\"{name}\""));
        }
    }
}
