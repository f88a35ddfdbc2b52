//! Suspects of attention over tiles and pages: entries that are not read, read twice, zeros, or another page's. All places
//! are compared on a few rows, from sums over tiles; the best one is then computed for all rows. Spec: D11.7

use super::attend::{Attend, Trial};
use super::lineup::Fitted;
use super::look::{LEFT, Look, SIZES, Sum, error};
use ndarray::{Axis, concatenate, s};
use rayon::prelude::*;
use std::ops::Range;

/// Every page is compared with every other one up to this many pages.
const PAGES: usize = 128;
/// One slot is compared with those that are no farther.
const NEAR: usize = 16;

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
    /// Those from this one on are not read.
    From(usize),
}

impl Mistake {
    /// Whether it is one of a single entry.
    fn slot(&self) -> bool {
        match self {
            Mistake::Dropped(r) | Mistake::Twice(r) | Mistake::Zeros(r) | Mistake::Other(r, _) => r.len() == 1,
            Mistake::Remainder(_) | Mistake::Window(_) | Mistake::From(_) => false,
        }
    }
}

impl Look<'_> {
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
                see(Mistake::Zeros(tile.clone()), Sum(without.0 + seen as f64 * self.zero(), without.1.clone()));
                see(Mistake::Dropped(tile.clone()), without.clone());
                see(Mistake::Twice(tile.clone()), right.plus(1.0, &own));
                let few = tiles.len() <= PAGES;
                if !first.map_or(few || size == 1, |first| tile.start == first) {
                    continue;
                }
                let near = |other: &Range<usize>| few || size > 1 || other.start.abs_diff(tile.start) <= NEAR;
                let fits = |other: &Range<usize>| other != tile && other.len() == tile.len() && near(other);
                for (other, sum) in tiles.iter().zip(&others).filter(|(other, _)| fits(other)) {
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
        let mut sum = self.sum(0..0, false);
        for from in 1..m {
            sum = sum.plus(1.0, &self.sum(from - 1..from, false));
            // The last tile has a sentence of its own.
            if !SIZES.iter().any(|&size| from.is_multiple_of(size) && from + size >= m) {
                see(Mistake::From(from), sum.clone());
            }
        }
        all
    }
}

/// The most mistakes that are added: of more nobody can tell which it is.
const RIVALS: usize = 3;
/// A mistake that leaves so many times as much as the best is none.
const RIVAL: f64 = 1.2;

/// Adds the mistake that leaves least, and those that leave about as much. Returns whether nothing else need be tried: one
/// explains the candidate, or several of one entry do, which shows that its weight is too small to tell them apart.
/// page: where a page of others begins, if known.
pub(super) fn suspects(trial: &mut Trial<'_, '_>, right: &Attend<'_>, looks: &[Look<'_>], page: Option<usize>) -> bool {
    let all: Vec<Vec<(Mistake, f64)>> = looks.par_iter().map(|look| look.all(page)).collect();
    let Some((one, rest)) = all.split_first() else { return false };
    let left = |k: usize| one[k].1 + rest.iter().map(|look| look[k].1).sum::<f64>();
    let mut all: Vec<(usize, f64)> = (0..one.len()).map(|k| (k, left(k))).collect();
    let most = LEFT * error(looks);
    all.retain(|mistake| mistake.1 < most);
    let best = all.iter().map(|mistake| mistake.1).fold(f64::INFINITY, f64::min);
    all.retain(|mistake| mistake.1 <= RIVAL * best);
    let again = |i: usize| all[..i].iter().any(|other| one[other.0].0 == one[all[i].0].0);
    let all: Vec<(usize, f64)> = (0..all.len()).filter(|&i| !again(i)).map(|i| all[i]).collect();
    if all.len() > 1 && all.iter().any(|&(k, _)| one[k].0.slot()) {
        return true;
    }
    all.len() <= RIVALS && all.iter().fold(false, |named, &(k, _)| add(trial, right, &one[k].0) || named)
}

/// Computes a mistake for all rows. One entry of many is fitted: it has to leave little.
fn add(trial: &mut Trial<'_, '_>, right: &Attend<'_>, mistake: &Mistake) -> bool {
    let m = right.k.shape()[1];
    let fitted = if mistake.slot() { Fitted::Many } else { Fitted::Few };
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
            trial.add(fitted, &seeing(right, |i, j| (right.sees)(i, j) && !r.contains(&j)), words)
        }
        Mistake::Remainder(size) => {
            let seen: Vec<usize> = (0..right.q.shape()[1]).map(|i| last(i) / size * size).collect();
            let words = || format!("the entries after the last multiple of {size} that a row sees are not read");
            trial.add(fitted, &seeing(right, |i, j| (right.sees)(i, j) && j < seen[i]), words)
        }
        Mistake::Window(window) => {
            let from: Vec<usize> = (0..right.q.shape()[1]).map(|i| last(i).saturating_sub(*window)).collect();
            let words = || format!("a row sees the last {window} entries alone");
            trial.add(fitted, &seeing(right, |i, j| (right.sees)(i, j) && j >= from[i]), words)
        }
        Mistake::From(from) => {
            let words = || format!("the entries from {from} on are not read");
            trial.add(fitted, &seeing(right, |i, j| (right.sees)(i, j) && j < *from), words)
        }
        Mistake::Twice(r) => {
            for x in [&mut k, &mut v] {
                let again = x.slice(s![.., r.clone(), ..]).to_owned();
                *x = concatenate(Axis(1), &[x.view(), again.view()]).unwrap_or_else(|_| unreachable!("D11.7"));
            }
            let twice = seeing(right, |i, j| (right.sees)(i, if j < m { j } else { r.start + j - m }));
            let words = || format!("{} read twice", are(r, &entries(r)));
            trial.add(fitted, &Attend { k: &k, v: &v, ..twice }, words)
        }
        Mistake::Zeros(r) => {
            [&mut k, &mut v].into_iter().for_each(|x| x.slice_mut(s![.., r.clone(), ..]).fill(0.0));
            let words = || format!("{} read as zeros: never written", are(r, &entries(r)));
            trial.add(fitted, &Attend { k: &k, v: &v, ..right.with(|_| {}) }, words)
        }
        Mistake::Other(r, from) => {
            let other = *from..from + r.len();
            for (x, own) in [(&mut k, right.k), (&mut v, right.v)] {
                x.slice_mut(s![.., r.clone(), ..]).assign(&own.slice(s![.., other.clone(), ..]));
            }
            let words = || format!("{} read from {}: the page of others", are(r, &entries(r)), entries(&other));
            trial.add(fitted, &Attend { k: &k, v: &v, ..right.with(|_| {}) }, words)
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
