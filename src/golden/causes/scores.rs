//! Suspects of attention: capped scores, scores of a part of a head, masks of whole tiles, an entry too many, KV heads in
//! another order, keys or values that stand at other entries. Spec: D11.7

use super::attend::{Attend, Trial};
use super::factors::number;
use super::lineup::Fitted;
use ndarray::{Array3, Axis, concatenate, s};

/// Adds the suspects.
pub(super) fn suspects(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    for more in [capped, short, tiles, sink, order, moved] {
        if !trial.lineup.is_solved() {
            more(trial, right);
        }
    }
}

/// Caps that are looked for, as powers of 2.
const CAPS: (f64, f64) = (0.0, 9.0);

/// Scores that a hyperbolic tangent caps.
fn capped(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let with = |cap: f64| right.with(|a| a.cap = Some(cap));
    let best = trial.best(CAPS, with);
    let whole = best.round().max(1.0);
    for cap in [whole, best] {
        let words = || format!("scores s are capped: {0}·tanh(s / {0})", number(cap).trim_end_matches(".0000"));
        if trial.add(Fitted::Few, &with(cap), words) {
            return;
        }
    }
}

/// Scores from the first numbers of a head.
fn short(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let d = right.q.shape()[2];
    for wide in (16..d).step_by(16).filter(|wide| 2 * wide >= d) {
        let [q, k] = [right.q, right.k].map(|x| x.slice(s![.., .., ..wide]).to_owned());
        let other = Attend { q: &q, k: &k, ..right.with(|_| {}) };
        trial.add(Fitted::No, &other, || format!("scores are formed from the first {wide} of {d} numbers of a head"));
    }
}

/// A causal mask that knows tiles alone.
fn tiles(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let before = right.k.shape()[1] - right.q.shape()[1].min(right.k.shape()[1]);
    for tile in [16, 32, 64, 128] {
        let words = || format!("a row sees the later entries of its tile of {tile}");
        let of_keys = right.with(|a| a.sees = Box::new(move |i, j| j < (before + i + 1).next_multiple_of(tile)));
        trial.add(Fitted::No, &of_keys, words);
        let of_rows = right.with(|a| a.sees = Box::new(move |i, j| j < before + (i + 1).next_multiple_of(tile)));
        trial.add(Fitted::No, &of_rows, words);
    }
}

/// One more entry of zeros, whose score is 0.
fn sink(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let m = right.k.shape()[1];
    let longer = |x: &Array3<f64>| {
        let zeros = Array3::zeros((x.shape()[0], 1, x.shape()[2]));
        concatenate(Axis(1), &[x.view(), zeros.view()]).unwrap_or_else(|_| unreachable!("D11.7"))
    };
    let (k, v) = (longer(right.k), longer(right.v));
    let more = right.with(|a| a.sees = Box::new(move |i, j| j == m || (right.sees)(i, j)));
    trial.add(Fitted::No, &Attend { k: &k, v: &v, ..more }, || {
        "one more entry of score 0 counts in the sum of the softmax".into()
    });
}

/// KV heads in another order: each query head is compared with all of them.
fn order(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let (heads, groups) = (right.q.shape()[0], right.k.shape()[0]);
    if groups < 2 {
        return;
    }
    let own: Vec<usize> = (0..heads).map(|h| (right.kv)(h)).collect();
    let apart: Vec<Vec<f64>> =
        (0..groups).map(|g| trial.of_heads(&right.with(|a| a.kv = Box::new(move |_| g)))).collect();
    let nearest = |h: usize| {
        let best = (0..groups).min_by(|&a, &b| apart[a][h].total_cmp(&apart[b][h])).unwrap_or(own[h]);
        if apart[best][h] < 0.1 * apart[own[h]][h] { best } else { own[h] }
    };
    let read: Vec<usize> = (0..heads).map(nearest).collect();
    let other: Vec<usize> = (0..heads).filter(|&h| read[h] != own[h]).collect();
    if other.is_empty() {
        return;
    }
    trial.add(Fitted::Few, &right.with(|a| a.kv = Box::new(|h| read[h])), || {
        if read.iter().zip(&own).all(|(read, own)| read + own + 1 == groups) {
            return "KV heads are read in reverse order".into();
        }
        let few = other.iter().take(6).map(|&h| format!("head {h} reads {}", read[h])).collect::<Vec<_>>().join(", ");
        format!("query heads read other KV heads: {few}{}", if other.len() > 6 { ", …" } else { "" })
    });
}

/// Keys, values or both of other entries, everywhere by the same rule.
fn moved(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let m = right.k.shape()[1];
    let rules: [(&dyn Fn(usize) -> usize, &str); 4] = [
        (&|j| j.saturating_sub(1), "the entry before: one entry late"),
        (&|j| (j + 1).min(m - 1), "the entry after: one entry early"),
        (&|j| (j ^ 1).min(m - 1), "the neighbour: two and two are exchanged"),
        (&|j| m - 1 - j, "the other end: in reverse order"),
    ];
    for (rule, which) in rules {
        let from: Vec<usize> = (0..m).map(rule).collect();
        let (k, v) = (right.k.select(Axis(1), &from), right.v.select(Axis(1), &from));
        for (k, v, what) in [(right.k, &v, "values"), (&k, right.v, "keys"), (&k, &v, "keys and values")] {
            let other = Attend { k, v, ..right.with(|_| {}) };
            trial.add(Fitted::No, &other, || format!("{what} of every entry are those of {which}"));
        }
    }
}
