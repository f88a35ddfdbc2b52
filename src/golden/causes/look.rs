//! A few rows of a few heads of an attention, whose sums over entries are changed one place at a time: so all places where an
//! entry may be wrong can be compared. Spec: D11.7

use super::attend::{Attend, Trial, place};
use ndarray::{ArrayView1, ArrayView2, Axis, s};
use std::ops::Range;

/// The most rows of heads that are looked at.
const LOOKS: usize = 48;
/// Entries of a tile or page that kernels have; 1 is a slot.
pub(super) const SIZES: [usize; 7] = [1, 8, 16, 32, 64, 128, 256];
/// A mistake is computed for all rows if it leaves less than this share of the squared error of a few.
pub(super) const LEFT: f64 = 0.1;

/// One row of one head.
pub(super) struct Look<'a> {
    /// The KV head that it reads.
    pub group: usize,
    /// The place of its first number in the stage.
    pub at: usize,
    /// e^(score − largest) of every entry, hidden ones as well: \[m\].
    pub e: Vec<f64>,
    pub sees: Vec<bool>,
    /// [m, d]
    pub values: ArrayView2<'a, f64>,
    /// The candidate's row: \[d\].
    pub got: Vec<f64>,
    query: ArrayView1<'a, f64>,
    scale: f64,
    most: f64,
}

/// A sum of weights, and of weights times values.
#[derive(Clone)]
pub(super) struct Sum(pub f64, pub Vec<f64>);

impl Sum {
    pub fn plus(&self, times: f64, other: &Sum) -> Sum {
        Sum(self.0 + times * other.0, self.1.iter().zip(&other.1).map(|(a, b)| a + times * b).collect())
    }

    /// The same with one more entry.
    pub fn with(&self, weight: f64, value: ArrayView1<'_, f64>) -> Sum {
        Sum(self.0 + weight, self.1.iter().zip(value).map(|(a, b)| a + weight * b).collect())
    }
}

impl<'a> Look<'a> {
    /// A row of a head. got: the candidate's stage, and whether it lies head by head.
    pub fn new((got, by_head): (&[f64], bool), right: &Attend<'a>, h: usize, i: usize) -> Look<'a> {
        let (heads, n, d) = (right.q.shape()[0], right.q.shape()[1], right.v.shape()[2]);
        let (group, at) = ((right.kv)(h), place(by_head, (heads, n, d), h, i));
        let (query, k) = (right.q.slice(s![h, i, ..]), right.k.index_axis(Axis(0), group));
        let scores: Vec<f64> = k.outer_iter().map(|k| right.scale * query.dot(&k)).collect();
        let sees: Vec<bool> = (0..scores.len()).map(|j| (right.sees)(i, j)).collect();
        let most = scores.iter().zip(&sees).filter(|s| *s.1).fold(f64::NEG_INFINITY, |m, s| m.max(*s.0));
        Look {
            group,
            at,
            e: scores.iter().map(|s| (s - most).min(600.0).exp()).collect(),
            sees,
            values: right.v.index_axis(Axis(0), group),
            got: got[at..at + d].to_vec(),
            query,
            scale: right.scale,
            most,
        }
    }

    /// The weight of an entry with this key, in the unit of `e`.
    pub fn weight(&self, key: ArrayView1<'_, f64>) -> f64 {
        (self.scale * self.query.dot(&key) - self.most).min(600.0).exp()
    }

    /// The weight of an entry of zeros.
    pub fn zero(&self) -> f64 {
        (-self.most).exp()
    }

    /// The sum over entries that the row sees, or over all of them.
    pub fn sum(&self, entries: Range<usize>, hidden: bool) -> Sum {
        let mut sum = Sum(0.0, vec![0.0; self.got.len()]);
        for j in entries.filter(|&j| hidden || self.sees[j]) {
            sum.0 += self.e[j];
            sum.1.iter_mut().zip(self.values.row(j)).for_each(|(s, v)| *s += self.e[j] * v);
        }
        sum
    }

    /// The squared distance of a mix from the candidate's.
    pub fn apart(&self, sum: &Sum) -> f64 {
        let total = if sum.0 > 0.0 { sum.0 } else { 1.0 };
        sum.1.iter().zip(&self.got).map(|(a, got)| (a / total - got).powi(2)).sum()
    }
}

/// The rows of heads that are looked at: the worst, and some of the others.
pub(super) fn looks<'a>(trial: &Trial<'_, '_>, right: &Attend<'a>) -> Vec<Look<'a>> {
    let (x, (heads, n, d)) = (trial.lineup.facts.numbers, (right.q.shape()[0], right.q.shape()[1], right.v.shape()[2]));
    let error = |&(h, i): &(usize, usize)| -> f64 {
        let at = place(trial.by_head, (heads, n, d), h, i);
        (at..at + d).map(|at| (x.got[at] - x.truth[at]).powi(2)).sum()
    };
    let mut pairs: Vec<(usize, usize)> = trial.few.iter().flat_map(|&i| (0..heads).map(move |h| (h, i))).collect();
    pairs.sort_by(|a, b| error(b).total_cmp(&error(a)));
    let others = pairs.split_off(pairs.len().min(LOOKS / 2));
    pairs.extend(others.iter().step_by((2 * others.len() / LOOKS).max(1)));
    pairs.iter().map(|&(h, i)| Look::new((x.got, trial.by_head), right, h, i)).collect()
}

/// The squared error of the rows that are looked at.
pub(super) fn error(looks: &[Look<'_>]) -> f64 {
    looks.iter().map(|look| look.apart(&look.sum(0..look.e.len(), false))).sum()
}
