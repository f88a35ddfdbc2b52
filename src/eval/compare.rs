//! Two cells on the same questions: the paired difference of a metric, its interval, and the sign test.
//!
//! Source: the paired difference as in E. B. Miller, "Adding error bars to evals" (arXiv 2411.00640); Dixon and Mood 1946 (sign test).

use super::Graded;
use super::stats::{Z, mean, stderr};
use serde::Serialize;
use std::collections::BTreeMap;

/// The second cell against the first, on the questions that both answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The number of questions, or of groups.
    pub n: usize,
    /// The mean of the first cell, and of the second.
    pub means: (f64, f64),
    /// The mean of second − first.
    pub difference: f64,
    /// The standard error of the difference.
    pub stderr: f64,
    /// The 95 % interval of the difference, by the normal approximation.
    pub ci95: (f64, f64),
    /// The questions on which the second is better, and on which it is worse.
    pub better_worse: (usize, usize),
    /// The two-sided p of the sign test: how often a fair coin gives a split as uneven as that.
    pub sign_test: f64,
    /// The same by kind, if the questions have kinds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, Difference>,
}

impl Difference {
    /// The difference of two lists of scores of the same file of questions.
    pub fn of(first: &[Graded], second: &[Graded]) -> Difference {
        let others: BTreeMap<usize, f64> = second.iter().map(|g| (g.question, g.score)).collect();
        let mut pairs: Vec<(f64, f64)> = Vec::new();
        let mut by_kind: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for one in first {
            let Some(&other) = others.get(&one.question) else { continue };
            pairs.push((one.score, other));
            if let Some(kind) = &one.kind {
                by_kind.entry(kind.clone()).or_default().push((one.score, other));
            }
        }
        let kinds = by_kind.into_iter().map(|(kind, pairs)| (kind, Difference::alone(&pairs)));
        Difference { kinds: kinds.collect(), ..Difference::alone(&pairs) }
    }

    fn alone(pairs: &[(f64, f64)]) -> Difference {
        let column = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).collect::<Vec<f64>>();
        let (first, second, each) = (column(|p| p.0), column(|p| p.1), column(|p| p.1 - p.0));
        let (difference, error) = (mean(&each), stderr(&each));
        let better = each.iter().filter(|d| **d > 0.0).count();
        let worse = each.iter().filter(|d| **d < 0.0).count();
        Difference {
            n: pairs.len(),
            means: (mean(&first), mean(&second)),
            difference,
            stderr: error,
            ci95: (difference - Z * error, difference + Z * error),
            better_worse: (better, worse),
            sign_test: sign_test(better, worse),
            kinds: BTreeMap::new(),
        }
    }
}

/// The two-sided p of a split of `better` and `worse` under a fair coin, exact.
///
/// ```
/// assert!((aircache::eval::sign_test(8, 2) - 0.109375).abs() < 1e-12);
/// assert_eq!(aircache::eval::sign_test(3, 3), 1.0);
/// ```
pub fn sign_test(better: usize, worse: usize) -> f64 {
    let n = better + worse;
    let ln_factorial = |k: usize| libm::lgamma(k as f64 + 1.0);
    let half_to_n = n as f64 * std::f64::consts::LN_2;
    let term = |k: usize| (ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) - half_to_n).exp();
    let tail: f64 = (0..=better.min(worse)).map(term).sum();
    (2.0 * tail).min(1.0)
}
