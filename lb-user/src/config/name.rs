//! Names of virtual servers, real servers and groups.

use super::value::{FromValue, Value};

/// 1 to 63 of the characters `A-Z a-z 0-9 . _ -`: fit for a label, a file name and a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

impl FromValue for Name {
    fn from_value(value: &Value) -> Result<Self, String> {
        let text = value.text("a name (in quotes, if it looks like a number)")?;
        check(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// # Errors
/// Says what a name is, if `text` isn't one.
pub fn check(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(format!(
            "expected a name of 1 to 63 characters A-Z a-z 0-9 . _ -, found \"{text}\""
        ))
    }
}
