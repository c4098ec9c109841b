//! Names of network interfaces.

use std::str::FromStr;

use super::value::{FromValue, Value};

/// A name that the kernel accepts for a device (`dev_valid_name` in net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(pub String);

const EXPECTED: &str = "an interface name (1 to 15 characters, no `/`, `:` or space)";

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = (1..libc::IFNAMSIZ).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.contains(|char: char| char == '/' || char == ':' || char.is_whitespace());
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("expected {EXPECTED}"))
        }
    }
}

impl FromValue for InterfaceName {
    fn from_value(value: &Value) -> Result<Self, String> {
        let name = value.text("an interface name")?.parse();
        name.map_err(|_| value.expected(EXPECTED))
    }
}
