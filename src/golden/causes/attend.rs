//! Attention in f64 with or without a mistake, for a few rows or all. Naive on purpose: it computes suspects only.
//! Spec: D11.7

use super::lineup::{Fitted, Lineup};
use ndarray::{Array3, Axis};
use rayon::prelude::*;

/// Whether a row sees an entry.
pub(super) type Sees<'a> = Box<dyn Fn(usize, usize) -> bool + Sync + 'a>;

/// Attention, with or without a mistake.
pub(in crate::golden) struct Attend<'a> {
    pub q: &'a Array3<f64>,
    pub k: &'a Array3<f64>,
    pub v: &'a Array3<f64>,
    pub scale: f64,
    /// Scores s are capped: c·tanh(s / c).
    pub cap: Option<f64>,
    pub sees: Sees<'a>,
    /// The KV head of a query head.
    pub kv: Box<dyn Fn(usize) -> usize + Sync + 'a>,
    /// What a weight is stored as.
    pub weight: fn(f64) -> f64,
    /// Whether weights are stored before they are divided by their sum.
    pub undivided: bool,
    /// A tile of keys whose padding counts in the sum.
    pub padding: Option<usize>,
    /// Whether weights are divided by their sum.
    pub divides: bool,
    /// A tile of keys after which the sum of weights, and their mix, are not rescaled to a larger score.
    pub stale: Option<(usize, [bool; 2])>,
}

/// The largest score so far, at the end of each entry's tile.
fn tops(seen: &[usize], scores: &[f64], tile: usize) -> Vec<f64> {
    let mut tops = scores.to_vec();
    for e in 1..tops.len() {
        tops[e] = tops[e].max(tops[e - 1]);
    }
    for e in (1..tops.len()).rev().filter(|&e| seen[e] / tile == seen[e - 1] / tile) {
        tops[e - 1] = tops[e];
    }
    tops
}

impl Attend<'_> {
    /// The mix of a row of a head: \[d\].
    fn row(&self, head: usize, i: usize) -> Vec<f64> {
        let g = (self.kv)(head);
        let q = self.q.index_axis(Axis(0), head).index_axis_move(Axis(0), i);
        let (k, v) = (self.k.index_axis(Axis(0), g), self.v.index_axis(Axis(0), g));
        let seen: Vec<usize> = (0..k.nrows()).filter(|&j| (self.sees)(i, j)).collect();
        let capped = |s: f64| self.cap.map_or(s, |c| c * (s / c).tanh());
        let scores: Vec<f64> = seen.iter().map(|&j| capped(self.scale * q.dot(&k.row(j)))).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (tile, stale) = self.stale.unwrap_or((usize::MAX, [false; 2]));
        let tops = tops(&seen, &scores, tile);
        let top = |e: usize, stale: bool| if stale { tops[e] } else { most };
        let mut total: f64 = scores.iter().enumerate().map(|(e, s)| (s - top(e, stale[0])).exp()).sum();
        if let Some(tile) = self.padding {
            total += (seen.len().next_multiple_of(tile) - seen.len()) as f64 * (-most).exp();
        }
        let total = if self.divides { total } else { 1.0 };
        let mut mix = vec![0.0; v.ncols()];
        for (e, (&j, s)) in seen.iter().zip(&scores).enumerate() {
            let p = (s - top(e, stale[1])).exp();
            let p = if self.undivided { (self.weight)(p) / total } else { (self.weight)(p / total) };
            mix.iter_mut().zip(v.row(j)).for_each(|(m, v)| *m += p * v);
        }
        mix
    }

    /// The mix of these rows: [rows, H·d], or [H, rows, d].
    pub fn rows(&self, rows: &[usize], by_head: bool) -> Vec<f64> {
        let heads = self.q.shape()[0];
        let all: Vec<(usize, usize)> = match by_head {
            true => (0..heads).flat_map(|h| rows.iter().map(move |&i| (h, i))).collect(),
            false => rows.iter().flat_map(|&i| (0..heads).map(move |h| (h, i))).collect(),
        };
        all.par_iter().flat_map_iter(|&(h, i)| self.row(h, i)).collect()
    }
}

impl<'a> Attend<'a> {
    /// Attention without a mistake, in which every row sees every entry. q: [H, n, d]; k, v: [G, m, d].
    pub fn new([q, k, v]: [&'a Array3<f64>; 3], scale: f64) -> Attend<'a> {
        let (h, g) = (q.shape()[0], k.shape()[0]);
        Attend {
            q,
            k,
            v,
            scale,
            cap: None,
            sees: Box::new(|_, _| true),
            kv: Box::new(move |head| head * g / h),
            weight: |p| p,
            undivided: false,
            padding: None,
            divides: true,
            stale: None,
        }
    }

    /// The same attention with one change. The mask and the KV heads are those of this one unless `change` sets them.
    pub fn with<'b>(&'b self, change: impl FnOnce(&mut Attend<'b>)) -> Attend<'b> {
        let mut other = Attend {
            q: self.q,
            k: self.k,
            v: self.v,
            scale: self.scale,
            cap: self.cap,
            sees: Box::new(|i, j| (self.sees)(i, j)),
            kv: Box::new(|h| (self.kv)(h)),
            weight: self.weight,
            undivided: self.undivided,
            padding: self.padding,
            divides: self.divides,
            stale: self.stale,
        };
        change(&mut other);
        other
    }
}

/// The squared distance of numbers from others.
pub(super) fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// The place of a head's row in the stage, [H, n, d] or [n, H·d].
pub(super) fn place(by_head: bool, (heads, n, d): (usize, usize, usize), h: usize, i: usize) -> usize {
    if by_head { (h * n + i) * d } else { (i * heads + h) * d }
}

/// The most rows that a suspect is tried on first, and the most rows of all heads together.
const TRIED: (usize, usize) = (32, 128);
/// The most rows that a number is fitted on.
const FITTED: usize = 8;

/// A suspect of attention is computed for a few rows, and for all rows if it explains these.
pub(super) struct Trial<'l, 'a> {
    pub lineup: &'l mut Lineup<'a>,
    /// Whether the stage is [H, rows, d], not [rows, H·d].
    pub by_head: bool,
    pub few: Vec<usize>,
}

impl Trial<'_, '_> {
    fn pick(&self, few: &[usize], of: &[f64], (heads, n, d): (usize, usize, usize)) -> Vec<f64> {
        let at = |h: usize, i: usize| place(self.by_head, (heads, n, d), h, i);
        let all: Vec<(usize, usize)> = match self.by_head {
            true => (0..heads).flat_map(|h| few.iter().map(move |&i| (h, i))).collect(),
            false => few.iter().flat_map(|&i| (0..heads).map(move |h| (h, i))).collect(),
        };
        all.into_iter().flat_map(|(h, i)| of[at(h, i)..at(h, i) + d].to_vec()).collect()
    }

    /// The share of the squared error of a few rows that a suspect leaves.
    fn rest(&self, suspect: &Attend<'_>) -> f64 {
        self.rest_of(&self.few, suspect)
    }

    fn rest_of(&self, few: &[usize], suspect: &Attend<'_>) -> f64 {
        let n = self.lineup.facts.numbers;
        let dim = (suspect.q.shape()[0], suspect.q.shape()[1], suspect.v.shape()[2]);
        let (got, truth) = (self.pick(few, n.got, dim), self.pick(few, n.truth, dim));
        let own = suspect.rows(few, self.by_head);
        apart(&got, &own) / apart(&got, &truth)
    }

    /// Adds a suspect. Returns whether it explains the candidate.
    pub fn add(&mut self, fitted: Fitted, suspect: &Attend<'_>, words: impl FnOnce() -> String) -> bool {
        self.all(suspect).is_some_and(|values| self.lineup.add(fitted, values, words))
    }

    /// Some of the few rows.
    fn fewer(&self) -> Vec<usize> {
        self.few.iter().copied().step_by(self.few.len().div_ceil(FITTED)).collect()
    }

    /// The number whose suspect leaves least, between these powers of 2. Found on few of the rows.
    pub fn best<'s>(&self, (low, high): (f64, f64), suspect: impl Fn(f64) -> Attend<'s>) -> f64 {
        let few = self.fewer();
        let rest = |log: f64| self.rest_of(&few, &suspect(log.exp2()));
        let grid: Vec<f64> = (0..=32).map(|i| low + (high - low) * f64::from(i) / 32.0).collect();
        let best = grid.into_iter().map(|log| (log, rest(log))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |b| b.0);
        let step = (high - low) / 32.0;
        let (mut low, mut high) = (best - step, best + step);
        for _ in 0..48 {
            let (a, b) = (high - (high - low) * 0.618_034, low + (high - low) * 0.618_034);
            if rest(a) < rest(b) { high = b } else { low = a }
        }
        ((low + high) / 2.0).exp2()
    }

    /// The squared distance of a suspect from the candidate in each query head, of few of the rows.
    pub fn of_heads(&self, suspect: &Attend<'_>) -> Vec<f64> {
        let (heads, n, d) = (suspect.q.shape()[0], suspect.q.shape()[1], suspect.v.shape()[2]);
        let few = self.fewer();
        let (own, got) = (suspect.rows(&few, true), self.lineup.facts.numbers.got);
        let left = |h: usize| {
            let rows = few.iter().zip(own[h * few.len() * d..].chunks(d));
            rows.map(|(&i, row)| apart(row, &got[place(self.by_head, (heads, n, d), h, i)..])).sum()
        };
        (0..heads).map(left).collect()
    }

    /// Adds a suspect that rounds as the candidate does but for ties, which may leave this share.
    pub fn add_like(&mut self, most: f64, suspect: &Attend<'_>, words: impl Fn() -> String) {
        if let Some(values) = self.all(suspect)
            && !self.lineup.add(Fitted::No, values.clone(), &words)
        {
            self.lineup.add_like(most, values, &words);
        }
    }

    /// All rows of a suspect, if it explains a few.
    fn all(&self, suspect: &Attend<'_>) -> Option<Vec<f64>> {
        let rows = || (0..suspect.q.shape()[1]).collect::<Vec<usize>>();
        (self.rest(suspect) < 0.6).then(|| suspect.rows(&rows(), self.by_head))
    }
}

/// Rows to try first: those with the largest errors, and some others that are wrong.
pub(super) fn few(lineup: &Lineup<'_>, (heads, n): (usize, usize), by_head: bool) -> Vec<usize> {
    let (x, width) = (lineup.facts.numbers, lineup.facts.layout().width);
    let mut error = vec![0.0; n];
    for (i, (t, c)) in x.truth.iter().zip(x.got).enumerate() {
        let row = if by_head { i / width % n } else { i / width };
        error[row] += (t - c).powi(2);
    }
    let mut order: Vec<usize> = (0..n).filter(|&i| error[i] > 0.0).collect();
    order.sort_by(|&a, &b| error[b].total_cmp(&error[a]));
    let most = (TRIED.1 / heads).clamp(4, TRIED.0);
    let step = (order.len() / most).max(1);
    let mut few: Vec<usize> = order.into_iter().step_by(step).take(most).collect();
    few.sort_unstable();
    few
}

impl Trial<'_, '_> {
    /// The first row that is clearly wrong.
    pub fn first_wrong(&self, n: usize, d: usize) -> usize {
        let x = self.lineup.facts.numbers;
        let heads = x.truth.len() / (n * d).max(1);
        let row = |i: usize| -> f64 {
            let at = |h: usize| place(self.by_head, (heads, n, d), h, i);
            (0..heads).flat_map(|h| at(h)..at(h) + d).map(|at| (x.got[at] - x.truth[at]).powi(2)).sum::<f64>().sqrt()
        };
        let most = (0..n).map(row).fold(0.0, f64::max);
        (0..n).find(|&i| row(i) > 0.05 * most).unwrap_or(0)
    }
}
