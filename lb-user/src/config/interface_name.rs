//! Names of network interfaces.

use super::value::{FromValue, Value};

/// A name that the kernel accepts for a device (`dev_valid_name` in net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(pub String);

impl FromValue for InterfaceName {
    fn from_value(value: &Value) -> Result<Self, String> {
        let text = value.text("an interface name")?;
        let valid = (1..libc::IFNAMSIZ).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.contains(|char: char| char == '/' || char == ':' || char.is_whitespace());
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(value.expected("an interface name (1 to 15 characters, no `/`, `:` or space)"))
        }
    }
}
