//! The only error type of the library. Files, configurations, prompts and policies can cause it.
//!
//! A bug in this library causes a panic instead; the panic's message names a label of the spec.

use std::fmt;

/// The result of a function that can fail because of its input.
pub type Result<T> = std::result::Result<T, Error>;

/// Bad input: its place, the expected input, the input that was found, and a remedy.
///
/// ```
/// let e = aircache::Error::new("config.json: num_attention_heads", "a divisor of hidden_size 192", 7);
/// assert_eq!(e.to_string(), "config.json: num_attention_heads: expected a divisor of hidden_size 192, found 7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The place: a file and its tensor or field, or an option or argument.
    pub at: String,
    /// The input that would have been accepted.
    pub expected: String,
    /// The input that was found.
    pub got: String,
    /// Advice for the user, if a remedy is known.
    pub remedy: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { at, expected, got, remedy } = self;
        write!(f, "{at}: expected {expected}, found {got}")?;
        remedy.iter().try_for_each(|remedy| write!(f, " ({remedy})"))
    }
}

impl std::error::Error for Error {}

impl Error {
    /// An error at the place `at`, where `expected` was required and `got` was found.
    pub fn new(at: impl fmt::Display, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Error { at: at.to_string(), expected: expected.to_string(), got: got.to_string(), remedy: None }
    }

    /// The same error with advice.
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// The same error with `outer` before its place, for callers that know the file.
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.at = format!("{outer}: {}", self.at);
        self
    }
}

/// Fails with [`Error`] unless the condition holds: `ensure!(cond, at, expected, got)`.
macro_rules! ensure {
    ($cond:expr, $at:expr, $expected:expr, $got:expr $(, $remedy:expr)?) => {
        if !$cond {
            return Err($crate::error::Error::new($at, $expected, $got)$(.remedy($remedy))?);
        }
    };
}
pub(crate) use ensure;
