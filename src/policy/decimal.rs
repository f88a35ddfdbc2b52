//! A decimal number as it was written: digits and a point, not binary. 0.3 is 3/10, not the double nearest to 0.3.
//! Retention, the pyramid's β and the recent share are such numbers, so that budgets are exact.

use crate::error::{Error, Result, ensure};
use std::fmt;
use std::str::FromStr;

/// digits / 10^places, without trailing zeros. Spec: D8.2, C8.2a
///
/// ```
/// use aircache::policy::Decimal;
/// let r: Decimal = "3e-1".parse()?;
/// assert_eq!((r.numerator(), r.denominator()), (3, 10));
/// assert_eq!(r.to_string(), "0.3");
/// # Ok::<(), aircache::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    digits: u64,
    places: u32,
}

/// Enough for any printed double from 1e-6 up; products with shares and layers still fit 128 bits (A8.9).
const MAX_PLACES: u32 = 22;

impl Decimal {
    /// digits / 10^places.
    ///
    /// # Panics
    /// More than 22 decimals (D8.2).
    pub const fn new(mut digits: u64, mut places: u32) -> Self {
        assert!(places <= MAX_PLACES, "D8.2: at most 22 decimals");
        while places > 0 && digits.is_multiple_of(10) {
            digits /= 10;
            places -= 1;
        }
        Decimal { digits, places }
    }

    /// The number that Rust prints for `x`, the shortest that reads back as `x`: 0.3 for 0.3.
    ///
    /// # Errors
    /// NaN, infinite, negative, or too long for [`Decimal`].
    pub fn of(x: f64) -> Result<Self> {
        format!("{x:e}").parse()
    }

    /// The numerator over [`Decimal::denominator`].
    pub fn numerator(self) -> u128 {
        self.digits as u128
    }

    /// A power of ten, at most 10^22.
    pub fn denominator(self) -> u128 {
        10u128.pow(self.places)
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or_else(|_| unreachable!("D9.6: a decimal is a number"))
    }
}

impl FromStr for Decimal {
    type Err = Error;

    /// Reads `0.3`, `.3`, `30e-2`, `1`; at most 18 digits and 22 decimals. Spec: D8.2
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new("number", "a decimal number such as 0.3 or 3e-1, not negative", format!("{text:?}"));
        let lower = text.trim().to_ascii_lowercase();
        let (mantissa, exponent) = match lower.split_once('e') {
            Some((m, e)) => (m, e.parse::<i64>().map_err(|_| bad())?),
            None => (lower.as_str(), 0),
        };
        let mantissa = mantissa.strip_prefix('+').unwrap_or(mantissa);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        ensure!(!all.is_empty() && all.bytes().all(|b| b.is_ascii_digit()), bad().at, bad().expected, bad().got);
        let long = || Error::new("number", "at most 18 digits and 22 decimals", format!("{text:?}"));
        let stripped = all.trim_end_matches('0');
        if stripped.is_empty() {
            return Ok(Decimal::new(0, 0));
        }
        let zeros = (all.len() - stripped.len()) as i64;
        let places = (fraction.len() as i64 - zeros).checked_sub(exponent).ok_or_else(long)?;
        let stripped = stripped.trim_start_matches('0');
        ensure!(
            stripped.len() <= 18 && (-18..=MAX_PLACES as i64).contains(&places),
            long().at,
            long().expected,
            long().got
        );
        let digits: u64 = stripped.parse().map_err(|_| long())?;
        match places {
            0.. => Ok(Decimal::new(digits, places as u32)),
            _ => digits
                .checked_mul(10u64.pow(-places as u32))
                .filter(|&d| d < 10u64.pow(18))
                .map(|d| Decimal::new(d, 0))
                .ok_or_else(long),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, places, digits) = (self.denominator(), self.places as usize, self.numerator());
        match places {
            0 => write!(f, "{digits}"),
            _ => write!(f, "{}.{:0places$}", digits / unit, digits % unit),
        }
    }
}
