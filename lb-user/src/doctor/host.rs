//! Files below `/proc` and `/sys` that hold one thing.

use std::{fs, str::FromStr};

/// The value of a setting by its path below `/proc/sys`, if there is such a setting.
pub fn setting<T: FromStr>(path: &str) -> Option<T> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    text.trim().parse().ok()
}
