//! How much of the visual cache stays: a fraction as written, or a mean number of tokens for each layer.

use super::Decimal;
use crate::error::{Error, Result, ensure};
use std::fmt;
use std::str::FromStr;

/// The requested retention. Spec: D8.2
///
/// ```
/// use aircache::policy::Retain;
/// let r: Retain = "0.3".parse()?;
/// assert_eq!(r.total(5, 3), 5); // ⌊0.3 · 5 · 3 + ½⌋ in exact arithmetic
/// assert!("0".parse::<Retain>().is_err() && "nan".parse::<Retain>().is_err() && "1.01".parse::<Retain>().is_err());
/// # Ok::<(), aircache::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retain {
    /// r: the fraction of the candidates that stays over all layers, 0 < r ≤ 1.
    Fraction(Decimal),
    /// The mean number of candidates that stays in a layer, at least 1; if there are fewer, all stay.
    Tokens(usize),
}

impl Retain {
    /// Everything stays.
    pub const ALL: Retain = Retain::Fraction(Decimal::new(1, 0));

    /// A fraction from a double, read as the shortest decimal that names it.
    ///
    /// # Errors
    /// r is not in 0 < r ≤ 1.
    pub fn fraction(r: f64) -> Result<Self> {
        Decimal::of(r).and_then(Self::checked).map_err(|e| Error { at: "retain".into(), got: r.to_string(), ..e })
    }

    /// A mean number of tokens for each layer.
    ///
    /// # Errors
    /// The number is 0.
    pub fn tokens(tokens: usize) -> Result<Self> {
        ensure!(tokens > 0, "retain-tokens", "at least 1 token in each layer", tokens);
        Ok(Retain::Tokens(tokens))
    }

    fn checked(r: Decimal) -> Result<Self> {
        let ok = r.numerator() > 0 && r.numerator() <= r.denominator();
        ensure!(ok, "retain", "a fraction r with 0 < r <= 1", r, "the share of visual entries kept, e.g. 0.1");
        Ok(Retain::Fraction(r))
    }

    /// r as a quotient of integers, for layers of `candidates` entries.
    pub(super) fn ratio(self, candidates: usize) -> (u128, u128) {
        match self {
            Retain::Fraction(r) => (r.numerator(), r.denominator()),
            Retain::Tokens(t) => (t.min(candidates) as u128, candidates.max(1) as u128),
        }
    }

    /// Entries kept over all layers: ⌊r · N_v · L + ½⌋ in exact arithmetic. Spec: A8.9
    pub fn total(self, candidates: usize, layers: usize) -> usize {
        let (num, den) = self.ratio(candidates);
        ((2 * num * candidates as u128 * layers as u128 + den) / (2 * den)) as usize
    }
}

impl FromStr for Retain {
    type Err = Error;

    /// Reads a fraction.
    fn from_str(text: &str) -> Result<Self> {
        let r: Decimal = text.parse().map_err(|_| {
            Error::new(
                "retain",
                "a fraction r with 0 < r <= 1 and at most 18 digits and 22 decimals",
                format!("{text:?}"),
            )
            .remedy("the share of visual entries kept, e.g. 0.1")
        })?;
        Self::checked(r)
    }
}

impl fmt::Display for Retain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retain::Fraction(r) => r.fmt(f),
            Retain::Tokens(t) => write!(f, "{t} tokens"),
        }
    }
}
