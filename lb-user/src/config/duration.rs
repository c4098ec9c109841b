//! Durations: `500ms`, `2s`, `30m`, `1h`.

use std::time::Duration;

use super::value::{FromValue, Value};

impl FromValue for Duration {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => parse(text),
            _ => None,
        }
        .ok_or_else(|| value.expected("a duration such as 500ms, 2s, 30m or 1h"))
    }
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
}
