//! What was found.

use std::fmt::{self, Display};

use serde::Serialize;
use strum::Display;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// `lb` works, but slower than it could, or not for everybody.
    Warning,
    /// `lb` does not start, or forwards nothing.
    Stops,
}

/// Something about the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: an interface, a real server, `kernel`, and so on.
    pub subject: String,
    /// What is so, and what to do about it. One line.
    pub message: String,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(subject: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Ok, subject, message)
    }

    /// It could be better.
    pub fn warning(subject: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, subject, message)
    }

    /// It is in the way.
    pub fn stops(subject: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Stops, subject, message)
    }

    fn new(severity: Severity, subject: &str, message: impl Into<String>) -> Self {
        Self {
            severity,
            subject: subject.to_owned(),
            message: message.into(),
        }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            subject,
            message,
        } = self;
        // Padding is for strings.
        write!(f, "{:<7}  {subject}: {message}", severity.to_string())
    }
}

#[cfg(test)]
pub mod tests {
    use crate::config::Config;

    /// A configuration with the interface `eth0`, the real server `a` at 10.9.0.11 behind the VIP 10.9.1.1, and these checks.
    pub fn config(checks: &str) -> Config {
        let text = format!(
            "interfaces: [{{ name: eth0 }}]
real_servers: {{ a: 10.9.0.11 }}
virtual_servers:
  - {{ name: shop, vip: 10.9.1.1, protocol: tcp, port: 80, bind: [a], health: {{ checks: {checks} }} }}"
        );
        Config::parse("lb.yaml", &text).unwrap()
    }
}
