//! Suspects of attention over tiles and pages: entries that are not read, read twice, zeros, or another page's. All places
//! are compared on a few rows, from sums over tiles; the best one is then computed for all rows. Spec: D11.7

use super::attend::{Attend, Trial};
use super::lineup::Fitted;
use ndarray::{ArrayView2, Axis, concatenate, s};
use rayon::prelude::*;
use std::ops::Range;

/// Entries of a tile or page that kernels have; 1 is a slot.
const SIZES: [usize; 7] = [1, 8, 16, 32, 64, 128, 256];
/// The most rows of heads that are looked at.
const LOOKS: usize = 48;
/// Every page is compared with every other one up to this many pages.
const PAGES: usize = 128;
/// A place is computed for all rows if it leaves less than this share of the squared error of a few.
const LEFT: f64 = 0.1;

/// What may have happened to some entries.
#[derive(Debug, Clone, PartialEq)]
enum Mistake {
    Dropped(Range<usize>),
    Twice(Range<usize>),
    Zeros(Range<usize>),
    /// They hold the entries from this one on.
    Other(Range<usize>, usize),
    /// Those after the last multiple of this number that a row sees are not read.
    Remainder(usize),
    /// All but a row's last ones are not read.
    Window(usize),
}

/// One row of one head.
struct Look<'a> {
    /// e^(score − largest) of every entry, hidden ones as well: \[m\].
    e: Vec<f64>,
    /// e^(0 − largest): the weight of an entry of zeros.
    zero: f64,
    sees: Vec<bool>,
    /// [m, d]
    values: ArrayView2<'a, f64>,
    /// The candidate's row: \[d\].
    got: Vec<f64>,
}

/// A sum of weights, and of weights times values.
#[derive(Clone)]
struct Sum(f64, Vec<f64>);

impl Sum {
    fn plus(&self, times: f64, other: &Sum) -> Sum {
        Sum(self.0 + times * other.0, self.1.iter().zip(&other.1).map(|(a, b)| a + times * b).collect())
    }
}

impl Look<'_> {
    /// The sum over entries that the row sees, or over all of them.
    fn sum(&self, entries: Range<usize>, hidden: bool) -> Sum {
        let mut sum = Sum(0.0, vec![0.0; self.got.len()]);
        for j in entries.filter(|&j| hidden || self.sees[j]) {
            sum.0 += self.e[j];
            sum.1.iter_mut().zip(self.values.row(j)).for_each(|(s, v)| *s += self.e[j] * v);
        }
        sum
    }

    /// The squared distance of a mix from the candidate's.
    fn apart(&self, sum: &Sum) -> f64 {
        let total = if sum.0 > 0.0 { sum.0 } else { 1.0 };
        sum.1.iter().zip(&self.got).map(|(a, got)| (a / total - got).powi(2)).sum()
    }

    /// Every mistake, and the squared error that it leaves of this row. first: where a page of others begins, if known.
    fn all(&self, first: Option<usize>) -> Vec<(Mistake, f64)> {
        let m = self.e.len();
        let right = self.sum(0..m, false);
        let last = self.sees.iter().rposition(|&sees| sees).map_or(0, |last| last + 1);
        let mut all = vec![];
        let mut see = |mistake, sum: Sum| all.push((mistake, self.apart(&sum)));
        for size in SIZES.into_iter().filter(|&size| size <= m) {
            let tiles: Vec<Range<usize>> = (0..m).step_by(size).map(|from| from..m.min(from + size)).collect();
            let others: Vec<Sum> = tiles.iter().map(|tile| self.sum(tile.clone(), true)).collect();
            for tile in &tiles {
                let own = self.sum(tile.clone(), false);
                let (without, seen) = (right.plus(-1.0, &own), tile.clone().filter(|&j| self.sees[j]).count());
                see(Mistake::Zeros(tile.clone()), Sum(without.0 + seen as f64 * self.zero, without.1.clone()));
                see(Mistake::Dropped(tile.clone()), without.clone());
                see(Mistake::Twice(tile.clone()), right.plus(1.0, &own));
                if size == 1 || !first.map_or(tiles.len() <= PAGES, |first| tile.start == first) {
                    continue;
                }
                for (other, sum) in tiles.iter().zip(&others).filter(|(o, _)| *o != tile && o.len() == tile.len()) {
                    let sum = match seen {
                        0 => right.clone(),
                        seen if seen == tile.len() => without.plus(1.0, sum),
                        _ => Sum(1.0, self.got.clone()), // what a part of a page gives says nothing
                    };
                    see(Mistake::Other(tile.clone(), other.start), sum);
                }
            }
            if size > 1 {
                see(Mistake::Remainder(size), self.sum(0..last / size * size, false));
            }
        }
        let mut sum = self.sum(0..0, false);
        for window in 1..m {
            if let Some(j) = last.checked_sub(window) {
                sum = sum.plus(1.0, &self.sum(j..j + 1, false));
            }
            see(Mistake::Window(window), sum.clone());
        }
        all
    }
}

/// Adds the mistake that leaves least. first: the first row that is wrong.
pub(super) fn suspects(trial: &mut Trial<'_, '_>, right: &Attend<'_>, first: usize) {
    let (heads, m) = (right.q.shape()[0], right.k.shape()[1]);
    let pairs: Vec<(usize, usize)> = trial.few.iter().flat_map(|&i| (0..heads).map(move |h| (h, i))).collect();
    let pairs: Vec<_> = pairs.iter().step_by((pairs.len() / LOOKS).max(1)).collect();
    let looks: Vec<Look<'_>> = pairs.into_iter().map(|&(h, i)| look(trial, right, h, i)).collect();
    // The entry that the first wrong row sees, and no row before it.
    let newest = |i: usize| (0..m).rev().find(|&j| (right.sees)(i, j));
    let page = newest(first).filter(|&j| first > 0 && newest(first - 1) < Some(j));
    let all: Vec<Vec<(Mistake, f64)>> = looks.par_iter().map(|look| look.all(page)).collect();
    let Some((one, rest)) = all.split_first() else { return };
    let left = |k: usize| one[k].1 + rest.iter().map(|look| look[k].1).sum::<f64>();
    let Some(best) = (0..one.len()).min_by(|&a, &b| left(a).total_cmp(&left(b))) else { return };
    let error: f64 = looks.iter().map(|look| look.apart(&look.sum(0..m, false))).sum();
    if left(best) < LEFT * error {
        add(trial, right, &one[best].0);
    }
}

fn look<'a>(trial: &Trial<'_, '_>, right: &Attend<'a>, h: usize, i: usize) -> Look<'a> {
    let (heads, n, d) = (right.q.shape()[0], right.q.shape()[1], right.v.shape()[2]);
    let g = (right.kv)(h);
    let q = right.q.slice(s![h, i, ..]);
    let k = right.k.index_axis(Axis(0), g);
    let scores: Vec<f64> = k.outer_iter().map(|k| right.scale * q.dot(&k)).collect();
    let sees: Vec<bool> = (0..scores.len()).map(|j| (right.sees)(i, j)).collect();
    let most = scores.iter().zip(&sees).filter(|s| *s.1).fold(f64::NEG_INFINITY, |m, s| m.max(*s.0));
    let at = if trial.by_head { (h * n + i) * d } else { (i * heads + h) * d };
    Look {
        e: scores.iter().map(|s| (s - most).min(600.0).exp()).collect(),
        zero: (-most).exp(),
        sees,
        values: right.v.index_axis(Axis(0), g),
        got: trial.lineup.facts.numbers.got[at..at + d].to_vec(),
    }
}

/// Computes a mistake for all rows.
fn add(trial: &mut Trial<'_, '_>, right: &Attend<'_>, mistake: &Mistake) {
    let m = right.k.shape()[1];
    let entries = |r: &Range<usize>| match r.len() {
        1 => format!("entry {}", r.start),
        _ => format!("entries {} to {}", r.start, r.end - 1),
    };
    let last = |i: usize| (0..m).rev().find(|&j| (right.sees)(i, j)).map_or(0, |j| j + 1);
    let (mut k, mut v) = (right.k.clone(), right.v.clone());
    match mistake {
        Mistake::Dropped(r) => {
            let end = if r.end == m { ": the last tile is left out" } else { "" };
            let words = || format!("{} not read{end}", are(r, &entries(r)));
            trial.add(Fitted::Few, &seeing(right, |i, j| (right.sees)(i, j) && !r.contains(&j)), words);
        }
        Mistake::Remainder(size) => {
            let seen: Vec<usize> = (0..right.q.shape()[1]).map(|i| last(i) / size * size).collect();
            let words = || format!("the entries after the last multiple of {size} that a row sees are not read");
            trial.add(Fitted::Few, &seeing(right, |i, j| (right.sees)(i, j) && j < seen[i]), words);
        }
        Mistake::Window(window) => {
            let from: Vec<usize> = (0..right.q.shape()[1]).map(|i| last(i).saturating_sub(*window)).collect();
            let words = || format!("a row sees the last {window} entries alone");
            trial.add(Fitted::Few, &seeing(right, |i, j| (right.sees)(i, j) && j >= from[i]), words);
        }
        Mistake::Twice(r) => {
            for x in [&mut k, &mut v] {
                let again = x.slice(s![.., r.clone(), ..]).to_owned();
                *x = concatenate(Axis(1), &[x.view(), again.view()]).unwrap_or_else(|_| unreachable!("D11.7"));
            }
            let twice = seeing(right, |i, j| (right.sees)(i, if j < m { j } else { r.start + j - m }));
            let words = || format!("{} read twice", are(r, &entries(r)));
            trial.add(Fitted::Few, &Attend { k: &k, v: &v, ..twice }, words);
        }
        Mistake::Zeros(r) => {
            [&mut k, &mut v].into_iter().for_each(|x| x.slice_mut(s![.., r.clone(), ..]).fill(0.0));
            let words = || format!("{} read as zeros: never written", are(r, &entries(r)));
            trial.add(Fitted::Few, &Attend { k: &k, v: &v, ..right.with(|_| {}) }, words);
        }
        Mistake::Other(r, from) => {
            let other = *from..from + r.len();
            for (x, own) in [(&mut k, right.k), (&mut v, right.v)] {
                x.slice_mut(s![.., r.clone(), ..]).assign(&own.slice(s![.., other.clone(), ..]));
            }
            let words = || format!("{} read from {}: the page of others", are(r, &entries(r)), entries(&other));
            trial.add(Fitted::Few, &Attend { k: &k, v: &v, ..right.with(|_| {}) }, words);
        }
    }
}

/// The same attention with another mask.
fn seeing<'b>(right: &'b Attend<'_>, sees: impl Fn(usize, usize) -> bool + Sync + 'b) -> Attend<'b> {
    right.with(|a| a.sees = Box::new(sees))
}

fn are(r: &Range<usize>, entries: &str) -> String {
    format!("{entries} {}", if r.len() == 1 { "is" } else { "are" })
}
