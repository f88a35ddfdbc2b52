//! The lineup: suspects are compared with the candidate, and those that explain it are kept. Spec: D11.2, E11.1, E11.2

use super::facts::Facts;
use crate::golden::arc;
use crate::golden::fit::{Products, errors};
use crate::golden::kinds::numbers::{self, Numbers};
use crate::golden::measure::Errors;
use crate::golden::rulers::{DRIFT, Rulers};
use crate::golden::verdict::Outcome;

/// How much a suspect was fitted to the candidate. Of suspects that explain it, the least fitted is named. Spec: E11.2
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::golden) enum Fitted {
    /// Not at all: the mistake gives these numbers.
    No,
    /// By a few numbers, such as a factor.
    Few,
    /// By a number for each row or column.
    Many,
}

/// The largest share of the squared error that a suspect may leave, by how much it is fitted. Spec: E11.1
const LEAVES: [f64; 3] = [0.5, 0.5, 0.02];
/// What a suspect leaves may be this many rulers, where the mistake makes the stage larger and its noise with it. It must
/// also be the next share of the error at most. Spec: E11.1
const LEFT: (f64, f64) = (4.0, 1e-3);
/// Suspects that leave about as much as the best are rivals. Spec: E11.2
const RIVAL: f64 = 1.2;
/// A drift follows a suspect whose coefficient is 1 within this many standard errors, or within this share.
const ONE: (f64, f64) = (3.0, 0.15);

/// Errors follow those of a suspect if their product is this many standard errors, if the suspect shares this much of
/// the squared error, and if one is at most this many times the other. Spec: D11.20
const FOLLOWS: f64 = 6.0;
const SHARED: f64 = 0.25;
const TIMES: f64 = 2.0;

/// A suspect that explains the candidate.
struct Named {
    fitted: Fitted,
    /// The share of the squared error that is left.
    rest: f64,
    words: String,
}

/// The suspects of one stage.
pub(in crate::golden) struct Lineup<'a> {
    /// The stage.
    pub facts: &'a Facts<'a>,
    noise: Errors,
    whole: f64,
    before: f64,
    named: Vec<Named>,
    /// The type in which the stage would pass, in words.
    pub passes: Option<&'static str>,
}

impl<'a> Lineup<'a> {
    /// Nobody is suspected yet.
    pub fn new(facts: &'a Facts<'a>) -> Lineup<'a> {
        let (n, layout, noise) = (facts.numbers, facts.layout(), facts.noise());
        let whole = Rulers::of(layout, n.truth, &noise, n.precision).whole;
        let mut lineup = Lineup { facts, noise, whole, before: 1.0, named: vec![], passes: None };
        lineup.before = lineup.squares(n.got, facts.drift.as_ref().map_or(n.truth, |d| &d.base));
        lineup
    }

    /// The sum of squared differences, in units of the noise.
    fn squares(&self, a: &[f64], b: &[f64]) -> f64 {
        let layout = self.facts.layout();
        a.iter().zip(b).enumerate().map(|(i, (a, b))| ((a - b) / self.noise.unit(layout, i)).powi(2)).sum()
    }

    /// The share of the squared error that these numbers leave, and the numbers turned as far as honest angles differ.
    fn rest(&self, values: &mut [f64]) -> f64 {
        let n = self.facts.numbers;
        if let Some(slack) = &self.facts.slack {
            arc::nearest(self.facts.layout(), slack, values, n.got);
        }
        self.squares(n.got, values) / self.before
    }

    /// Compares a suspect: the numbers that the stage would have. Returns whether it explains the candidate.
    pub fn add(&mut self, fitted: Fitted, values: Vec<f64>, words: impl FnOnce() -> String) -> bool {
        let n = self.facts.numbers;
        if values.len() != n.got.len() || values.iter().any(|v| !v.is_finite()) {
            return false;
        }
        let rest = match self.facts.drift {
            Some(_) => self.drifts(&values),
            None => self.explains(fitted, values),
        };
        let Some(rest) = rest else { return false };
        self.named.push(Named { fitted, rest, words: words() });
        true
    }

    /// As [`add`](Self::add), for numbers that round as the candidate's do but for ties: they may leave this share.
    pub fn add_like(&mut self, most: f64, mut values: Vec<f64>, words: impl FnOnce() -> String) -> bool {
        if self.facts.drift.is_some() || values.len() != self.facts.numbers.got.len() {
            return false;
        }
        let rest = self.rest(&mut values);
        if rest <= most {
            self.named.push(Named { fitted: Fitted::Few, rest, words: words() });
        }
        rest <= most
    }

    /// The share of the error that is left; none if too much is left. Spec: E11.1
    fn explains(&self, fitted: Fitted, mut values: Vec<f64>) -> Option<f64> {
        let n = self.facts.numbers;
        let rest = self.rest(&mut values);
        if rest.is_nan() || rest > LEAVES[fitted as usize] {
            return None;
        }
        let size = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let grown = (size(&values) / size(n.truth).max(f64::MIN_POSITIVE)).max(1.0);
        let left = (size(&errors(n.got, &values)) / (values.len() as f64).sqrt()) / (grown * self.whole);
        if left <= LEFT.0 && rest <= LEFT.1 {
            return Some(rest);
        }
        let times = |all: &[f64]| all.iter().map(|v| v * grown).collect::<Vec<f64>>();
        let noise = Errors {
            whole: self.noise.whole * grown,
            columns: times(&self.noise.columns),
            rows: self.noise.rows.iter().map(|r| [r[0] * grown, r[1] * grown]).collect(),
            ..self.noise.clone()
        };
        let noise = n.noise.is_some().then_some(noise);
        let passes = numbers::judge(&Numbers { truth: &values, noise, drift: None, ..*n }).outcome == Outcome::Pass;
        passes.then_some(rest)
    }

    /// The same of a stage whose numbers are all within the noise: its errors have to follow the suspect, with the
    /// coefficient 1. Spec: E11.1
    fn drifts(&self, values: &[f64]) -> Option<f64> {
        let (n, drift) = (self.facts.numbers, self.facts.drift.as_ref()?);
        let (error, direction) = (errors(n.got, &drift.base), errors(values, n.truth));
        let fit = Products::new(self.facts.layout(), &drift.groups, &error, &direction).all(&self.noise.scale)?;
        let s = fit.ruler();
        let follows = (fit.a - 1.0).abs() <= (ONE.0 * s).max(ONE.1) && fit.a > DRIFT * s;
        follows.then(|| self.squares(&error, &direction) / self.before)
    }

    /// Whether the candidate's errors follow those of these numbers. Spec: D11.20
    pub fn follows(&self, values: &[f64]) -> bool {
        let (n, layout) = (self.facts.numbers, self.facts.layout());
        if self.facts.drift.is_some() || values.len() != n.got.len() {
            return false;
        }
        let (mut product, mut scatter, mut own, mut other) = (0.0, 0.0, 0.0, 0.0);
        for (i, ((c, t), s)) in n.got.iter().zip(n.truth).zip(values).enumerate() {
            let unit = self.noise.unit(layout, i);
            let (e, d) = ((c - t) / unit, (s - t) / unit);
            product += e * d;
            scatter += (e * d).powi(2);
            own += e * e;
            other += d * d;
        }
        let (a, share) = (product / other, product * product / (own * other));
        product > FOLLOWS * scatter.sqrt() && share >= SHARED && (1.0 / TIMES..=TIMES).contains(&a)
    }

    /// Names a cause that is not one of other numbers; it counts least.
    pub fn name(&mut self, words: &str) {
        self.named.push(Named { fitted: Fitted::Many, rest: 1.0, words: words.into() });
    }

    /// Whether a suspect that is not fitted explains the candidate.
    pub fn is_solved(&self) -> bool {
        self.named.iter().any(|named| named.fitted == Fitted::No)
    }

    /// Whether a suspect that is fitted by few numbers at most explains the candidate.
    pub fn is_named(&self) -> bool {
        self.named.iter().any(|named| named.fitted <= Fitted::Few)
    }

    /// The words of the suspect that is fitted least and leaves least; of its rivals as well, if there is one or two.
    /// Spec: E11.2
    pub fn words(mut self) -> Option<String> {
        let fitted = self.named.iter().map(|named| named.fitted).min()?;
        self.named.retain(|named| named.fitted == fitted);
        self.named.sort_by(|a, b| a.rest.total_cmp(&b.rest));
        let best = self.named[0].rest;
        self.named.retain(|named| named.rest <= RIVAL * best + 1e-12);
        self.named.dedup_by(|a, b| a.words == b.words);
        let words: Vec<String> = self.named.into_iter().map(|named| named.words).collect();
        (words.len() <= 3).then(|| words.join(", or "))
    }
}
