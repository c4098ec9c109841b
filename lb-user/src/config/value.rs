//! One value of the file, before it is known to be right: reading it never fails, so that a wrong
//! value doesn't hide the next one.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;
use strum::VariantNames;

use super::suggest::did_you_mean;

/// A value as YAML sees it. `M` is what a mapping is read as.
#[derive(Debug, Clone)]
pub enum Value<M = IgnoredAny> {
    /// Empty, `null` or `~`.
    Nothing,
    /// `true` or `false`; other words such as `yes` are text.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Text, quoted or not.
    Text(String),
    /// `[...]` or lines that begin with `-`.
    List(Vec<Spanned<Value>>),
    /// `{...}` or lines of `key: value`.
    Mapping(M),
}

impl<M> Value<M> {
    /// The message for a value that isn't `what` was expected.
    pub fn expected(&self, what: &str) -> String {
        format!("expected {what}, found {self}")
    }

    /// The text, if the value is any. What YAML reads as a number or a truth value (`1e3`, `true`)
    /// isn't guessed at.
    ///
    /// # Errors
    /// The message that `what` was expected.
    pub fn text(&self, what: &str) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(self.expected(what)),
        }
    }
}

impl<M> fmt::Display for Value<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            // With its point: `1.0` is not `1`.
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::List(_) => f.write_str("a list"),
            Self::Mapping(_) => f.write_str("a mapping"),
        }
    }
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for Value<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor(PhantomData))
    }
}

struct ValueVisitor<M>(PhantomData<M>);

impl<'de, M: Deserialize<'de>> Visitor<'de> for ValueVisitor<M> {
    type Value = Value<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map)).map(Value::Mapping)
    }
}

/// A type that one value of the file stands for.
pub trait FromValue: Sized {
    /// # Errors
    /// What was expected and what is there instead.
    fn from_value(value: &Value) -> Result<Self, String>;
}

/// A `T`, or the reason why the value is none.
#[derive(Debug, Clone)]
pub struct Parsed<T>(pub Result<T, String>);

/// A [`Parsed`] value and its place.
pub type Field<T> = Spanned<Parsed<T>>;

impl<'de, T: FromValue> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(T::from_value(&value)))
    }
}

/// A value that has a short form, one value, and a long form, a mapping.
#[derive(Debug, Clone)]
pub enum Entry<S, L> {
    /// Anything but a mapping.
    Short(Parsed<S>),
    /// A mapping. Boxed: there are thousands of short ones, which would be as large.
    Long(Box<L>),
}

impl<'de, S: FromValue, L: Deserialize<'de>> Deserialize<'de> for Entry<S, L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let short = match Value::<Box<L>>::deserialize(deserializer)? {
            Value::Mapping(long) => return Ok(Self::Long(long)),
            Value::Nothing => Value::Nothing,
            Value::Bool(value) => Value::Bool(value),
            Value::Integer(value) => Value::Integer(value),
            Value::Float(value) => Value::Float(value),
            Value::Text(text) => Value::Text(text),
            Value::List(list) => Value::List(list),
        };
        Ok(Self::Short(Parsed(S::from_value(&short))))
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(bool) => Ok(*bool),
            _ => Err(value.expected("true or false")),
        }
    }
}

/// A whole number from `MIN` to `MAX`, all of which `T` holds.
#[derive(Debug, Clone, Copy)]
pub struct Number<T, const MIN: u32, const MAX: u32>(pub T);

impl<T: TryFrom<i128>, const MIN: u32, const MAX: u32> FromValue for Number<T, MIN, MAX> {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Integer(number) if (MIN.into()..=MAX.into()).contains(number) => {
                T::try_from(*number).ok().map(Self)
            }
            _ => None,
        }
        .ok_or_else(|| value.expected(&format!("a number from {MIN} to {MAX}")))
    }
}

/// One of the words that name the variants of `T`.
#[derive(Debug, Clone, Copy)]
pub struct Word<T>(pub T);

impl<T: FromStr + VariantNames> FromValue for Word<T> {
    fn from_value(value: &Value) -> Result<Self, String> {
        let words = T::VARIANTS.join(" | ");
        let text = value.text(&words)?;
        let unknown = |_| {
            let suggestion = did_you_mean(text, T::VARIANTS.iter().copied());
            format!("{}{suggestion}", value.expected(&words))
        };
        text.parse().map(Self).map_err(unknown)
    }
}

/// `none`, where something else would be a mapping.
#[derive(Debug, Clone, Copy)]
pub struct NoneWord;

impl FromValue for NoneWord {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text == "none" => Ok(Self),
            _ => Err(value.expected("a mapping (`key: value`) or none")),
        }
    }
}

/// Any text that isn't empty.
#[derive(Debug, Clone)]
pub struct Text(pub String);

impl FromValue for Text {
    fn from_value(value: &Value) -> Result<Self, String> {
        const EXPECTED: &str = "text (in quotes, if it looks like a number)";
        match value.text(EXPECTED)? {
            "" => Err(value.expected(EXPECTED)),
            text => Ok(Self(text.to_owned())),
        }
    }
}
