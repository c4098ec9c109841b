//! The values of an HTTP check.

use std::ops::RangeInclusive;

use super::value::{FromValue, Value};

/// The path of a request: begins with `/`, has no space.
#[derive(Debug, Clone)]
pub struct UrlPath(#[expect(dead_code, reason = "read once health checks exist")] pub String);

impl FromValue for UrlPath {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "a path that begins with `/`";
        let text = value.text(EXPECTED)?;
        let unfit = |char: char| char.is_whitespace() || char.is_control();
        if text.starts_with('/') && !text.contains(unfit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(value.expected(EXPECTED))
        }
    }
}

/// The status codes that count as healthy: `200` or `200-399`.
#[derive(Debug, Clone)]
pub struct StatusRange(
    #[expect(dead_code, reason = "read once health checks exist")] pub RangeInclusive<u16>,
);

impl FromValue for StatusRange {
    fn from_value(value: &Value) -> Result<Self, String> {
        let range = match value {
            Value::Integer(code) => u16::try_from(*code).ok().map(|code| code..=code),
            Value::Text(text) => text
                .split_once('-')
                .and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?)),
            _ => None,
        };
        range
            .filter(|range| !range.is_empty() && *range.start() >= 100 && *range.end() <= 599)
            .map(Self)
            .ok_or_else(|| value.expected("a status from 100 to 599 or a range such as 200-399"))
    }
}
