//! What the body of an HTTP response must have.

use std::{cell::RefCell, collections::HashMap};

use regex::bytes::Regex;

use super::Failure;
use crate::config::Body;

/// Patterns that are kept compiled, so that those of former configurations don't pile up.
const KEPT: usize = 10_000;

thread_local! {
    /// To compile a pattern takes much longer than all else in a check.
    static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
}

/// Whether these bytes have what is wanted.
pub(super) fn verify(wanted: &Body, bytes: &[u8]) -> Result<(), Failure> {
    match wanted {
        Body::Contains(text) if String::from_utf8_lossy(bytes).contains(text) => Ok(()),
        Body::Contains(text) => Err(Failure::Answer(format!("body without `{text}`"))),
        Body::Matches(pattern) => match is_match(pattern, bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Answer(format!(
                "body that doesn't match `{pattern}`"
            ))),
            Err(error) => Err(Failure::Unsent(error.to_string())),
        },
    }
}

fn is_match(pattern: &str, bytes: &[u8]) -> Result<bool, regex::Error> {
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(regex) = compiled.get(pattern) {
            return Ok(regex.is_match(bytes));
        }
        let regex = Regex::new(pattern)?;
        if compiled.len() == KEPT {
            compiled.clear();
        }
        let regex = compiled.entry(pattern.to_owned()).or_insert(regex);
        Ok(regex.is_match(bytes))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::text("ok", b"all ok\n", true)]
    #[case::text_amid_other_bytes("\u{e9}", b"\xff\xc3\xc3\xa9", true)]
    #[case::no_text("ok", b"OK", false)]
    #[case::empty("ok", b"", false)]
    fn a_text_is_somewhere(#[case] text: &str, #[case] bytes: &[u8], #[case] passes: bool) {
        let failure = Failure::Answer(format!("body without `{text}`"));
        let wanted = Body::Contains(text.to_owned());
        let expected = if passes { Ok(()) } else { Err(failure) };
        assert_eq!(verify(&wanted, bytes), expected);
    }

    #[rstest]
    #[case::whole("^ok$", b"ok", true)]
    #[case::more("^ok$", b"ok\n", false)]
    #[case::other_bytes(r"(?-u)^\xff.k", b"\xffok", true)]
    fn a_pattern_matches(#[case] pattern: &str, #[case] bytes: &[u8], #[case] passes: bool) {
        let failure = Failure::Answer(format!("body that doesn't match `{pattern}`"));
        let wanted = Body::Matches(pattern.to_owned());
        let expected = if passes { Ok(()) } else { Err(failure) };
        for _ in 0..2 {
            assert_eq!(verify(&wanted, bytes), expected);
        }
    }
}
