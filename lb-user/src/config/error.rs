//! What is wrong with a configuration file, and where.

use std::fmt;

use serde_yaml::{Location, Spanned};

use super::MAX_FILE_SIZE;
use super::value::{Field, Parsed};

/// A place in the file, in characters; the first is line 1, column 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

impl Position {
    /// Where the file begins: the place of what belongs to no other.
    pub const START: Self = Self { line: 1, column: 1 };

    /// Where the value is used: its alias or merge, if it has one.
    pub(super) fn used<T>(spanned: &Spanned<T>) -> Self {
        spanned.referenced.into()
    }
}

impl From<Location> for Position {
    /// An unknown location (line 0) becomes the start of the file.
    fn from(location: Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
        .max(Self::START)
    }
}

/// Where the value is written. For an alias or a merged key that is its anchor, the text to mend.
impl<T> From<&Spanned<T>> for Position {
    fn from(spanned: &Spanned<T>) -> Self {
        spanned.defined.into()
    }
}

/// One problem of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where the value at fault begins.
    pub position: Position,
    /// What is wrong and what was expected, on one line.
    pub message: String,
}

impl Diagnostic {
    /// Control characters in the message (it quotes the file) are escaped.
    pub fn new(position: Position, message: &str) -> Self {
        let mut line = String::with_capacity(message.len());
        for char in message.chars() {
            if char.is_control() {
                line.extend(char.escape_debug());
            } else {
                line.push(char);
            }
        }
        Self {
            position,
            message: line,
        }
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Records a problem of what is written at `at`.
    pub fn add(&mut self, at: impl Into<Position>, message: impl AsRef<str>) {
        self.0.push(Diagnostic::new(at.into(), message.as_ref()));
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// The value at `at`, which `key` names, if it is right; a wrong one is recorded.
    pub fn parsed<'a, T, P>(
        &mut self,
        at: &Spanned<P>,
        key: &str,
        parsed: &'a Parsed<T>,
    ) -> Option<&'a T> {
        match &parsed.0 {
            Ok(value) => Some(value),
            Err(problem) => {
                self.add(at, format!("{key}: {problem}"));
                None
            }
        }
    }

    /// The value of `key`, if it is there and right; a wrong one is recorded.
    pub fn value<'a, T>(&mut self, key: &str, field: &'a Option<Field<T>>) -> Option<&'a T> {
        let field = field.as_ref()?;
        self.parsed(field, key, &field.value)
    }

    /// As [`Self::value`], but `parent` must have the key.
    pub fn required<'a, T, P>(
        &mut self,
        parent: &Spanned<P>,
        key: &str,
        field: &'a Option<Field<T>>,
    ) -> Option<&'a T> {
        if field.is_none() {
            self.add(parent, format!("missing key `{key}`"));
        }
        self.value(key, field)
    }

    /// `value`, unless there was any problem: then all of them, in the order of the file. What
    /// several aliases of one anchor repeat is said once.
    pub fn unless_any<T>(mut self, value: T) -> Result<T, Vec<Diagnostic>> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort();
        self.0.dedup();
        Err(self.0)
    }
}

/// Why a file gives no configuration. Displays as one line per problem.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file couldn't be read.
    #[error("{file_name}: can't be read: {error}")]
    Read {
        /// The file's name as it was given.
        file_name: String,
        /// The operating system's reason.
        error: std::io::Error,
    },
    /// The file is larger than [`MAX_FILE_SIZE`].
    #[error("{file_name}: is larger than {} MiB, the most that is read", MAX_FILE_SIZE >> 20)]
    TooLarge {
        /// The file's name as it was given.
        file_name: String,
    },
    /// The file's content is wrong.
    #[error("{}", Lines(file_name, diagnostics))]
    Invalid {
        /// The file's name as it was given.
        file_name: String,
        /// At least one problem, in the order of the file.
        diagnostics: Vec<Diagnostic>,
    },
}

impl LoadError {
    pub(super) fn invalid(file_name: &str, diagnostics: Vec<Diagnostic>) -> Self {
        Self::Invalid {
            file_name: file_name.to_owned(),
            diagnostics,
        }
    }

    /// `valid` are the bytes before the first that isn't UTF-8.
    pub(super) fn not_utf8(file_name: String, valid: &[u8]) -> Self {
        let valid = String::from_utf8_lossy(valid);
        let line = valid.rsplit('\n').next().unwrap_or_default();
        let position = Position {
            line: valid.matches('\n').count() as u64 + 1,
            column: line.chars().count() as u64 + 1,
        };
        let diagnostic = Diagnostic::new(position, "not UTF-8 text: save the file as UTF-8");
        Self::Invalid {
            file_name,
            diagnostics: vec![diagnostic],
        }
    }
}

struct Lines<'a>(&'a str, &'a [Diagnostic]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(file_name, diagnostics) = self;
        for (index, Diagnostic { position, message }) in diagnostics.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            let Position { line, column } = position;
            write!(f, "{line_break}{file_name}:{line}:{column}: {message}")?;
        }
        Ok(())
    }
}
