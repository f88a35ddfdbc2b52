//! Suspects of attention: one entry has another key, another value, or both: its slot is stale, or was never written. What
//! stands in the slot is fitted: a weight for each row, a value for each KV head. Spec: D11.7

use super::attend::{Attend, Trial, apart};
use super::lineup::Fitted;
use super::look::{LEFT, Look, Sum, error};
use ndarray::{Array3, s};
use rayon::prelude::*;

/// What is wrong of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Key,
    Value,
    Both,
}

/// A row without the entry: what it would be with another key or value there follows.
struct Part {
    group: usize,
    at: usize,
    /// The mix of the other entries; none if the row sees this one alone.
    others: Option<Vec<f64>>,
    /// The share of the entry's right weight.
    share: f64,
    value: Vec<f64>,
    got: Vec<f64>,
}

impl Part {
    /// The row with a share of this value.
    fn with(&self, share: f64, value: &[f64]) -> Vec<f64> {
        match &self.others {
            Some(others) => others.iter().zip(value).map(|(o, v)| o + share * (v - o)).collect(),
            None => value.to_vec(),
        }
    }

    /// The share of this value that leaves least.
    fn fit(&self, value: &[f64]) -> f64 {
        let Some(others) = &self.others else { return 1.0 };
        let (mut along, mut square) = (0.0, 0.0);
        for ((o, v), got) in others.iter().zip(value).zip(&self.got) {
            along += (got - o) * (v - o);
            square += (v - o) * (v - o);
        }
        if square > 0.0 { (along / square).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// The part of a row that sees the entry. whole: the sum over all that it sees.
fn part(look: &Look<'_>, whole: &Sum, j: usize) -> Option<Part> {
    if !look.sees[j] {
        return None;
    }
    let others = whole.with(-look.e[j], look.values.row(j));
    let rest = others.0 > 1e-12 * whole.0;
    Some(Part {
        group: look.group,
        at: look.at,
        share: if rest { look.e[j] / whole.0 } else { 1.0 },
        others: rest.then(|| others.1.iter().map(|v| v / others.0).collect()),
        value: look.values.row(j).to_vec(),
        got: look.got.clone(),
    })
}

/// Rounds of a fit of shares and values in turn.
const ROUNDS: usize = 8;
/// Steps of a conjugate gradient.
const STEPS: usize = 40;
/// A value is fitted if a second row shows it, with this share of the largest weight: one row shows any value.
const SECOND: f64 = 0.1;
/// The entry that was copied is named if every other one leaves so many times as much.
const CLEAR: f64 = 1.5;

/// Every row as it would be with what is fitted in the entry.
fn fitted(wrong: Wrong, parts: &[Part]) -> Vec<Vec<f64>> {
    let mut shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
    let mut values: Vec<Vec<f64>> = parts.iter().map(|part| part.value.clone()).collect();
    let rounds = if wrong == Wrong::Both { ROUNDS } else { 1 };
    for round in 0..rounds {
        if wrong != Wrong::Key {
            fit_values(wrong, parts, &shares, &mut values);
        }
        if wrong != Wrong::Value && round + 1 < ROUNDS {
            shares = parts.iter().zip(&values).map(|(part, value)| part.fit(value)).collect();
        }
    }
    parts.iter().zip(shares).zip(&values).map(|((part, share), value)| part.with(share, value)).collect()
}

/// The value of each KV head that leaves least: with these shares, or with shares that are about as large.
fn fit_values(wrong: Wrong, parts: &[Part], shares: &[f64], values: &mut [Vec<f64>]) {
    let groups = parts.iter().map(|part| part.group + 1).max().unwrap_or(0);
    for group in 0..groups {
        let own: Vec<usize> = (0..parts.len()).filter(|&r| parts[r].group == group).collect();
        let most = own.iter().map(|&r| shares[r]).fold(0.0, f64::max);
        if own.iter().filter(|&&r| shares[r] > SECOND * most).count() < 2 {
            continue;
        }
        let rows: Vec<(&Part, f64)> = own.iter().map(|&r| (&parts[r], shares[r])).collect();
        let value = if wrong == Wrong::Value { mean(&rows) } else { meeting(&rows, &values[own[0]]) };
        own.iter().for_each(|&r| values[r].clone_from(&value));
    }
}

/// The value by least squares, where the shares are known.
fn mean(rows: &[(&Part, f64)]) -> Vec<f64> {
    let total: f64 = rows.iter().map(|row| row.1 * row.1).sum();
    let mut value = vec![0.0; rows[0].0.got.len()];
    for (part, share) in rows {
        for (c, v) in value.iter_mut().enumerate() {
            let other = part.others.as_ref().map_or(0.0, |others| others[c]);
            *v += share * (part.got[c] - (1.0 - share) * other) / total;
        }
    }
    value
}

/// The value where lines meet: each row lies between the mix of the other entries and the value. It is the point that is
/// nearest to all lines, each counted with the square of its share; a conjugate gradient finds it.
fn meeting(rows: &[(&Part, f64)], start: &[f64]) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let line = |(part, share): &(&Part, f64)| {
        let Some(others) = &part.others else { return (part.got.clone(), vec![0.0; start.len()], 1.0) };
        let way: Vec<f64> = part.got.iter().zip(others).map(|(got, o)| got - o).collect();
        let long = dot(&way, &way).sqrt();
        let way = way.iter().map(|w| if long > 0.0 { w / long } else { 0.0 }).collect();
        (others.clone(), way, share * share)
    };
    let lines: Vec<(Vec<f64>, Vec<f64>, f64)> = rows.iter().map(line).collect();
    let off = |x: &[f64], from: bool| {
        let mut sum = vec![0.0; x.len()];
        for (at, way, weight) in &lines {
            let x = if from { at } else { x };
            let along = dot(x, way);
            sum.iter_mut().zip(x).zip(way).for_each(|((s, x), w)| *s += weight * (x - along * w));
        }
        sum
    };
    let mut x = start.to_vec();
    let mut left: Vec<f64> = off(&x, true).iter().zip(off(&x, false)).map(|(b, a)| b - a).collect();
    let (mut way, mut square) = (left.clone(), dot(&left, &left));
    let enough = 1e-24 * square;
    for _ in 0..STEPS {
        let image = off(&way, false);
        let curve = dot(&way, &image);
        if square <= enough || curve <= 0.0 {
            break;
        }
        let step = square / curve;
        x.iter_mut().zip(&way).for_each(|(x, w)| *x += step * w);
        left.iter_mut().zip(&image).for_each(|(l, i)| *l -= step * i);
        let next = dot(&left, &left);
        way = left.iter().zip(&way).map(|(l, w)| l + next / square * w).collect();
        square = next;
    }
    x
}

/// Adds what leaves least: another key or value alone, or else both.
pub(super) fn suspects(trial: &mut Trial<'_, '_>, right: &Attend<'_>, looks: &[Look<'_>]) {
    let (m, limit) = (right.k.shape()[1], LEFT * error(looks));
    let wholes: Vec<Sum> = looks.iter().map(|look| look.sum(0..m, false)).collect();
    let left = |wrong: Wrong, j: usize| -> f64 {
        let seen = looks.iter().zip(&wholes).filter(|(look, _)| !look.sees[j]);
        let hidden: f64 = seen.map(|(look, whole)| look.apart(whole)).sum();
        let parts: Vec<Part> = looks.iter().zip(&wholes).filter_map(|(look, whole)| part(look, whole, j)).collect();
        hidden + fitted(wrong, &parts).iter().zip(&parts).map(|(row, part)| apart(row, &part.got)).sum::<f64>()
    };
    for wrong in [Wrong::Key, Wrong::Value, Wrong::Both] {
        let all: Vec<f64> = (0..m).into_par_iter().map(|j| left(wrong, j)).collect();
        let best = (0..m).min_by(|&a, &b| all[a].total_cmp(&all[b]));
        let Some(j) = best.filter(|&j| all[j] < limit) else { continue };
        if wrong != Wrong::Both && copied(trial, right, (looks, &wholes), wrong, j) {
            return;
        }
        let (heads, n) = (right.q.shape()[0], right.q.shape()[1]);
        let stage = (trial.lineup.facts.numbers.got, trial.by_head);
        let one = |i: usize| {
            let look = Look::new(stage, right, i / n, i % n);
            part(&look, &look.sum(0..m, false), j)
        };
        let parts: Vec<Part> = (0..heads * n).into_par_iter().filter_map(one).collect();
        let mut values = trial.lineup.facts.numbers.truth.to_vec();
        for (row, part) in fitted(wrong, &parts).iter().zip(&parts) {
            values[part.at..part.at + row.len()].copy_from_slice(row);
        }
        let what = match wrong {
            Wrong::Key => "another key than its own: its slot is stale, or of others",
            Wrong::Value => "another value than its own: its slot is stale, or of others",
            Wrong::Both => "another key and value than its own: its slot was never written, or is of others",
        };
        if trial.lineup.add(Fitted::Many, values, || format!("entry {j} is read with {what}")) {
            return;
        }
    }
}

/// Adds the key, or the value, of another entry if it is that. wholes: the sum over all that each look sees.
fn copied(
    trial: &mut Trial<'_, '_>,
    right: &Attend<'_>,
    (looks, wholes): (&[Look<'_>], &[Sum]),
    wrong: Wrong,
    j: usize,
) -> bool {
    let m = right.k.shape()[1];
    let left = |from: usize| -> f64 {
        let seen = looks.iter().zip(wholes).filter(|(look, _)| look.sees[j]);
        let each = seen.map(|(look, whole)| {
            let others = whole.with(-look.e[j], look.values.row(j));
            let (key, value) = if wrong == Wrong::Key { (from, j) } else { (j, from) };
            look.apart(&others.with(look.e[key], look.values.row(value)))
        });
        each.sum()
    };
    let all: Vec<f64> = (0..m).into_par_iter().map(left).collect();
    let mut order: Vec<usize> = (0..m).filter(|&from| from != j).collect();
    order.sort_by(|&a, &b| all[a].total_cmp(&all[b]));
    let Some(&from) = order.first() else { return false };
    if order.get(1).is_some_and(|&next| all[next] < CLEAR * all[from]) {
        return false;
    }
    let copy = |x: &Array3<f64>| {
        let mut other = x.clone();
        other.slice_mut(s![.., j, ..]).assign(&x.slice(s![.., from, ..]));
        other
    };
    let what = if wrong == Wrong::Key { "key" } else { "value" };
    let words = || format!("entry {j} is read with the {what} of entry {from}: its slot is stale, or of others");
    match wrong {
        Wrong::Key => trial.add(Fitted::Many, &Attend { k: &copy(right.k), ..right.with(|_| {}) }, words),
        _ => trial.add(Fitted::Many, &Attend { v: &copy(right.v), ..right.with(|_| {}) }, words),
    }
}
