//! The ports of a virtual server.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_yaml::Spanned;

use super::error::Diagnostics;
use super::value::Value;

/// The most ports in one list: each is an entry of its own in the kernel's map.
const MAX_LISTED: usize = 1024;

const FORMS: &str = "a port: 80, [80, 443], \"8000-8100\" or any";
const ONE_PORT: &str = "a port from 1 to 65535";

/// The ports that a virtual server takes, none of them 0. Displays as it is written in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every port that no list and no range of another virtual server takes.
    Any,
    /// One port or several, at least one.
    List(BTreeSet<u16>),
    /// All from the first to the last, both included.
    Range(RangeInclusive<u16>),
}

impl Ports {
    /// The lowest; `None` if it may be any.
    pub fn first(&self) -> Option<u16> {
        match self {
            Self::Any => None,
            Self::List(ports) => ports.first().copied(),
            Self::Range(range) => Some(*range.start()),
        }
    }

    /// Reads any of the forms; records each element that is none.
    pub(super) fn from_value(field: &Spanned<Value>, errors: &mut Diagnostics) -> Option<Self> {
        match &field.value {
            Value::List(elements) => list(field, elements, errors),
            Value::Text(text) if text == "any" => Some(Self::Any),
            Value::Text(text) if text.contains('-') => match range(text) {
                Ok(range) => Some(Self::Range(range)),
                Err(problem) => {
                    errors.add(field, format!("port: {problem}"));
                    None
                }
            },
            value => match one(value) {
                Some(port) => Some(Self::List(BTreeSet::from([port]))),
                None => {
                    let expected = if matches!(value, Value::Integer(_)) {
                        ONE_PORT
                    } else {
                        FORMS
                    };
                    errors.add(field, format!("port: {}", value.expected(expected)));
                    None
                }
            },
        }
    }
}

fn one(value: &Value) -> Option<u16> {
    match value {
        Value::Integer(port) => u16::try_from(*port).ok(),
        Value::Text(text) => number(text),
        _ => None,
    }
    .filter(|&port| port != 0)
}

/// Decimal digits alone: `u16::from_str` would take a sign too.
fn number(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn list(
    field: &Spanned<Value>,
    elements: &[Spanned<Value>],
    errors: &mut Diagnostics,
) -> Option<Ports> {
    if elements.is_empty() {
        errors.add(field, format!("port: the list is empty: expected {FORMS}"));
    }
    if elements.len() > MAX_LISTED {
        let count = elements.len();
        errors.add(
            field,
            format!("port: {count} ports are more than {MAX_LISTED} in a list: use a range or any"),
        );
    }
    let mut ports = BTreeSet::new();
    for element in elements {
        match one(&element.value) {
            None => errors.add(
                element,
                format!("port: {}", element.value.expected(ONE_PORT)),
            ),
            Some(port) => {
                if !ports.insert(port) {
                    errors.add(element, format!("port: {port} is in the list twice"));
                }
            }
        }
    }
    (!ports.is_empty()).then_some(Ports::List(ports))
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text
        .split_once('-')
        .and_then(|(first, last)| Some((number(first.trim())?, number(last.trim())?)))
        .filter(|&(first, _)| first != 0)
        .ok_or_else(|| {
            format!(
                "expected a range of ports from 1 to 65535 such as \"8000-8100\", found \"{text}\""
            )
        })?;
    if first <= last {
        Ok(first..=last)
    } else {
        Err(format!(
            "the range {text} is reversed: write {last}-{first}"
        ))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Range(range) => write!(f, "{}-{}", range.start(), range.end()),
            Self::List(ports) => match Vec::from_iter(ports).as_slice() {
                [port] => port.fmt(f),
                ports => write!(f, "{ports:?}"),
            },
        }
    }
}

/// As in the file: a number, a list of numbers, or text.
/// Reads back what [`Serialize`] writes.
impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(u16),
            List(BTreeSet<u16>),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::One(port) => Ok(Self::List(BTreeSet::from([port]))),
            Written::List(ports) => Ok(Self::List(ports)),
            Written::Text(text) if text == "any" => Ok(Self::Any),
            Written::Text(text) => range(&text).map(Self::Range).map_err(de::Error::custom),
        }
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any | Self::Range(_) => serializer.collect_str(self),
            Self::List(ports) => match Vec::from_iter(ports).as_slice() {
                [port] => port.serialize(serializer),
                ports => ports.serialize(serializer),
            },
        }
    }
}
