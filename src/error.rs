//! The one error of the library: what a file, a configuration, a prompt or a policy can cause.
//!
//! What only a bug of ours can cause is a panic that names its spec label instead.

use std::fmt;

/// The result of everything here that input can make fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Bad input: where it was found, what was expected there, what was found instead, and what to do.
///
/// ```
/// let e = aircache::Error::new("config.json: num_attention_heads", "a divisor of hidden_size 192", 7);
/// assert_eq!(e.to_string(), "config.json: num_attention_heads: expected a divisor of hidden_size 192, found 7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The file, and the tensor or field in it; or the option or argument.
    pub at: String,
    /// What would have been accepted.
    pub expected: String,
    /// What was found.
    pub got: String,
    /// What the user can do about it, if anything is known to help.
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
    /// An error at `at`, where `expected` was wanted and `got` was found.
    pub fn new(at: impl fmt::Display, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Error { at: at.to_string(), expected: expected.to_string(), got: got.to_string(), remedy: None }
    }

    /// The same error with advice.
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// The same error with `outer` put before the place, for callers that know the file.
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
