//! Durations: `500ms`, `2s`, `30m`, `1h`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::value::{FromValue, Value};

/// In milliseconds, as bounds are.
pub const SECOND: u64 = 1_000;
/// As [`SECOND`].
pub const MINUTE: u64 = 60 * SECOND;
/// As [`SECOND`].
pub const HOUR: u64 = 60 * MINUTE;

/// A duration from `MIN` to `MAX`, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Within<const MIN: u64, const MAX: u64>(pub Duration);

/// As [`Within`], or `none`.
#[derive(Debug, Clone, Copy)]
pub struct WithinOrNone<const MIN: u64, const MAX: u64>(pub Option<Duration>);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    fn new(value: &Value) -> Option<Self> {
        let bounds = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        let Value::Text(text) = value else {
            return None;
        };
        parse(text)
            .filter(|duration| bounds.contains(duration))
            .map(Self)
    }

    fn expected() -> String {
        format!("a duration from {} to {}", shown(MIN), shown(MAX))
    }
}

impl<const MIN: u64, const MAX: u64> FromValue for Within<MIN, MAX> {
    fn from_value(value: &Value) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| value.expected(&Self::expected()))
    }
}

impl<const MIN: u64, const MAX: u64> FromValue for WithinOrNone<MIN, MAX> {
    fn from_value(value: &Value) -> Result<Self, String> {
        if matches!(value, Value::Text(word) if word == "none") {
            return Ok(Self(None));
        }
        let within = Within::<MIN, MAX>::new(value).map(|Within(duration)| Self(Some(duration)));
        within.ok_or_else(|| {
            let expected = Within::<MIN, MAX>::expected();
            value.expected(&format!("{expected}, or none"))
        })
    }
}

/// Milliseconds as they would be written.
fn shown(millis: u64) -> String {
    match millis {
        hours if hours % HOUR == 0 => format!("{}h", hours / HOUR),
        minutes if minutes % MINUTE == 0 => format!("{}m", minutes / MINUTE),
        seconds if seconds % SECOND == 0 => format!("{}s", seconds / SECOND),
        millis => format!("{millis}ms"),
    }
}

/// As it would be written.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(duration.as_millis() as u64))
}

/// As [`serialize`]; none is null.
pub fn serialize_option<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = duration.map(|duration| shown(duration.as_millis() as u64));
    text.serialize(serializer)
}

/// `None` for zero too: nothing waits for no time.
fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok().filter(|&number| number > 0)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("500ms", Duration::from_millis(500))]
    #[case("2s", Duration::from_secs(2))]
    #[case("30m", Duration::from_secs(1800))]
    #[case("1h", Duration::from_secs(3600))]
    fn a_number_with_a_unit_is_a_duration(#[case] text: &str, #[case] duration: Duration) {
        assert_eq!(parse(text), Some(duration));
    }

    #[rstest]
    #[case::no_unit("30")]
    #[case::no_number("s")]
    #[case::zero("0s")]
    #[case::sign("-1s")]
    #[case::fraction("1.5s")]
    #[case::space("2 s")]
    #[case::unknown_unit("2d")]
    #[case::two_units("1h30m")]
    #[case::past_64_bits("99999999999999999999s")]
    #[case::overflow("18446744073709551615h")]
    fn anything_else_is_none(#[case] text: &str) {
        assert_eq!(parse(text), None);
    }

    #[rstest]
    #[case(10, "10ms")]
    #[case(1_500, "1500ms")]
    #[case(SECOND, "1s")]
    #[case(90 * SECOND, "90s")]
    #[case(120 * SECOND, "2m")]
    #[case(48 * HOUR, "48h")]
    fn bounds_are_shown_in_the_largest_unit(#[case] millis: u64, #[case] text: &str) {
        assert_eq!(shown(millis), text);
        assert_eq!(parse(text), Some(Duration::from_millis(millis)));
    }
}
