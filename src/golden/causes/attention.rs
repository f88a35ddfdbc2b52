//! Suspects of attention: another scale, mask, KV head, or coarser weights. Computed from queries, keys and values.
//! Spec: D11.7

use super::attend::{Attend, Sees, Trial, few};
use super::bits::e4m3;
use super::factors::number;
use super::formats::TIES;
use super::lineup::{Fitted, Lineup};
use super::look::looks;
use super::{address, pages, reads, scores, slot};
use crate::num::Grid;
use crate::roles::Role;
use crate::stage::{Site, Stage};
use ndarray::{Array3, ArrayD, Axis, Ix2, Ix3, concatenate};

/// What a weight is rounded to.
type Rounded = fn(f64) -> f64;

/// Adds the suspects of a mix.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    let facts = lineup.facts;
    let Some((q, k, v)) = inputs(lineup) else { return };
    let n = q.shape()[1];
    let entries = k.shape()[1];
    let (h, g) = (q.shape()[0], k.shape()[0]);
    let d = q.shape()[2];
    if h == 0 || g == 0 || h % g != 0 || entries < n || q.shape()[2] != k.shape()[2] || v.dim() != k.dim() {
        return;
    }
    let before = entries - n;
    let right =
        Attend { sees: Box::new(move |i, j| j <= before + i), ..Attend::new([&q, &k, &v], 1.0 / (d as f64).sqrt()) };
    let by_head = facts.at.site == Site::Query; // a kernel by itself
    suspects_of(lineup, &right, by_head, facts.roles.as_deref());
    if facts.at.is_step() {
        steps(lineup, &right);
    }
}

/// The queries of a mix and the entries that they see: [H, n, d_h], [G, m, d_h].
fn inputs(lineup: &Lineup<'_>) -> Option<(Array3<f64>, Array3<f64>, Array3<f64>)> {
    let at = lineup.facts.at;
    let of = |stage: Stage| (lineup.facts.known)(stage).and_then(|x| x.into_dimensionality::<Ix3>().ok());
    if at.site == Site::Mix {
        let [q, k, v] = [Site::Query, Site::Key, Site::Value].map(|site| of(Stage::layer(site, at.layer)));
        return Some((q?, k?, v?));
    }
    if at.site != Site::StepMix {
        return None;
    }
    let row = |x: ArrayD<f64>| x.into_dimensionality::<Ix2>().ok().map(|x| x.insert_axis(Axis(1)));
    let step = |site: Site, t: usize| (lineup.facts.known)(Stage::of_step(site, t, at.layer)).and_then(row);
    let joined = |cache: Site, own: Site| -> Option<Array3<f64>> {
        let mut all = vec![of(Stage::layer(cache, at.layer))?];
        for t in 0..=at.step {
            all.push(step(own, t)?);
        }
        let views: Vec<_> = all.iter().map(|x| x.view()).collect();
        concatenate(Axis(1), &views).ok()
    };
    let query = step(Site::StepQuery, at.step)?;
    Some((query, joined(Site::CacheKey, Site::StepKey)?, joined(Site::CacheValue, Site::StepValue)?))
}

/// Every mistake of attention that is known, one at a time.
pub(in crate::golden) fn suspects_of(
    lineup: &mut Lineup<'_>,
    right: &Attend<'_>,
    by_head: bool,
    roles: Option<&[Role]>,
) {
    let (h, g) = (right.q.shape()[0], right.k.shape()[0]);
    let (n, m, d) = (right.q.shape()[1], right.k.shape()[1], right.q.shape()[2]);
    let few = few(lineup, (h, n), by_head);
    if few.is_empty() {
        return;
    }
    let mut trial = Trial { lineup, by_head, few };
    let with = |scale: f64| right.with(|a| a.scale = scale);
    let (own, wide) = (right.scale, d as f64);
    let scales = [
        (1.0, "1".to_string()),
        (1.0 / wide, "1/d_h".into()),
        (wide.powf(-0.5), "1/√d_h".into()),
        ((wide * h as f64).powf(-0.5), "1/√(H·d_h), of the hidden size".into()),
        ((wide / 2.0).powf(-0.5), "1/√(d_h/2)".into()),
        ((wide * 2.0).powf(-0.5), "1/√(2·d_h)".into()),
        (own * std::f64::consts::LOG2_E, "log₂e times the scale: a power of e in place of 2".into()),
        (own / std::f64::consts::LOG2_E, "the scale without log₂e: a power of 2 in place of e".into()),
        (own * own, "the square of the scale: queries and scores are both scaled".into()),
    ];
    let name = |scale: f64| format!("{scale:.6}");
    for (scale, words) in scales {
        if (scale / own - 1.0).abs() > 1e-6 {
            trial.add(Fitted::No, &with(scale), || {
                format!("scores are scaled by {} = {words}; expected {}", name(scale), name(own))
            });
        }
    }
    if !trial.lineup.is_solved() {
        let best = trial.best((own.log2() - 2.0, own.log2() + 2.0), with);
        trial.add(Fitted::Few, &with(best), || {
            format!("scores are scaled by {}; expected {}, {} times", name(best), name(own), number(best / own))
        });
    }
    let before = m - n.min(m);
    let shift = |by: isize| -> Sees<'static> { Box::new(move |i, j| (j as isize) <= (before + i) as isize + by) };
    let masks: [(Sees<'_>, String); 6] = [
        (Box::new(|_, _| true), "no mask: every row sees every entry".into()),
        (shift(0), "a causal mask".into()),
        (shift(1), "the mask lets a row see the next".into()),
        (Box::new(move |i, j| j < before + i || before + i + j == 0), "the mask hides a row's own entry".into()),
        (Box::new(|i, j| j <= i), "the causal mask is aligned at the first entry in place of the last".into()),
        (Box::new(move |i, j| j <= before + i && (j > 0 || i == 0)), "the first entry is not seen".into()),
    ];
    for (sees, words) in masks {
        trial.add(Fitted::No, &right.with(|a| a.sees = sees), || words);
    }
    let first = trial.first_wrong(n, d);
    if first > 0 {
        let window = before + first;
        let sees: Sees<'_> = Box::new(move |i, j| j <= before + i && j + window > before + i);
        trial.add(Fitted::No, &right.with(|a| a.sees = sees), || format!("a row sees the last {window} entries alone"));
    }
    if let Some(roles) = roles.filter(|roles| roles.len() == n && m == n) {
        let visual: Vec<bool> = roles.iter().map(|r| *r == Role::Visual).collect();
        let sees: Sees<'_> = Box::new(move |i, j| j <= i || visual[i] && visual[j]);
        trial.add(Fitted::No, &right.with(|a| a.sees = sees), || {
            "rows of the image see each other, the later ones as well".into()
        });
    }
    if g > 1 && g < h {
        trial.add(Fitted::No, &right.with(|a| a.kv = Box::new(move |head| head % g)), || {
            format!("query head h reads KV head h mod {g} in place of h / {}", h / g)
        });
        trial.add(Fitted::No, &right.with(|a| a.kv = Box::new(|_| 0)), || "every query head reads KV head 0".into());
    }
    let weights: [(Rounded, &str); 6] = [
        (|p| (p * 256.0).round() / 256.0, "weights are rounded to 1/256"),
        (|p| (p * 255.0).round() / 255.0, "weights are rounded to 1/255"),
        (|p| (p * 127.0).round() / 127.0, "weights are rounded to 1/127"),
        (|p| e4m3(p * 448.0) / 448.0, "weights are stored in fp8 (e4m3)"),
        (|p| Grid::Bf16.round(p), "weights are stored in bf16"),
        (|p| Grid::F16.round(p), "weights are stored in f16"),
    ];
    for (weight, words) in weights {
        let values = right.with(|a| a.weight = weight);
        if trial.lineup.facts.numbers.precision.grid() == Grid::Native || words.contains('/') || words.contains("fp8") {
            trial.add_like(TIES, &values, || words.into());
            trial.add_like(TIES, &values.with(|a| a.undivided = true), || words.into());
        }
    }
    for tile in [8, 16, 32, 64, 128] {
        trial.add(Fitted::No, &right.with(|a| a.padding = Some(tile)), || {
            format!("padding of the last tile of {tile} keys counts in the sum of the softmax")
        });
    }
    trial.add(Fitted::No, &right.with(|a| a.divides = false), || "weights are not divided by their sum".into());
    for more in [reads::suspects, neighbours, online, scores::suspects] {
        if !trial.lineup.is_solved() {
            more(&mut trial, right);
        }
    }
    if trial.lineup.is_solved() {
        return;
    }
    // The entry that the first wrong row sees, and no row before it.
    let newest = |i: usize| (0..m).rev().find(|&j| (right.sees)(i, j));
    let page = newest(first).filter(|&j| first > 0 && newest(first - 1) < Some(j));
    let looks = looks(&trial, right);
    if !pages::suspects(&mut trial, right, &looks, page) && !trial.lineup.is_named() {
        address::suspects(&mut trial, right, &looks, page);
        slot::suspects(&mut trial, right, &looks);
    }
}

/// Keys, values or both of the KV head before or after.
fn neighbours(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let heads = right.k.shape()[0];
    let turned = |x: &Array3<f64>, by: usize| {
        let order: Vec<usize> = (0..heads).map(|g| (g + by) % heads).collect();
        x.select(Axis(0), &order)
    };
    let sides = [(1, "after"), (heads - 1, "before")];
    for (by, side) in sides.into_iter().take(heads - 1) {
        let (k, v) = (turned(right.k, by), turned(right.v, by));
        for (k, v, what) in [(right.k, &v, "values are"), (&k, right.v, "keys are"), (&k, &v, "keys and values are")] {
            let other = Attend { k, v, ..right.with(|_| {}) };
            trial.add(Fitted::No, &other, || format!("{what} those of the KV head {side} the right one"));
        }
    }
}

/// A softmax tile by tile whose sums are not rescaled.
fn online(trial: &mut Trial<'_, '_>, right: &Attend<'_>) {
    let m = right.k.shape()[1];
    for tile in [16, 32, 64, 128].into_iter().filter(|&tile| tile < m) {
        for (stale, what) in [([true, true], "sums"), ([true, false], "the sum of weights"), ([false, true], "the mix")]
        {
            trial.add(Fitted::No, &right.with(|a| a.stale = Some((tile, stale))), || {
                format!("tiles of {tile} keys: {what} of earlier tiles not rescaled when a larger score comes")
            });
        }
    }
}

/// A step that reads other entries.
fn steps(lineup: &mut Lineup<'_>, right: &Attend<'_>) {
    let at = lineup.facts.at;
    let of = |site: Site| {
        (lineup.facts.known)(Stage::layer(site, at.layer)).and_then(|x| x.into_dimensionality::<Ix3>().ok())
    };
    let cached = of(Site::CacheKey).map_or(0, |x| x.shape()[1]);
    if let (Some(k), Some(v)) = (of(Site::Key), of(Site::Value))
        && k.shape()[1] > cached
        && k.shape()[0] == right.k.shape()[0]
    {
        let own = |x: &Array3<f64>| x.slice(ndarray::s![.., cached.., ..]).to_owned();
        let (a, b) = (own(right.k), own(right.v));
        let joined = |x: &Array3<f64>, own: &Array3<f64>| concatenate(Axis(1), &[x.view(), own.view()]);
        if let (Ok(k), Ok(v)) = (joined(&k, &a), joined(&v, &b)) {
            let whole = Attend { k: &k, v: &v, ..right.with(|a| a.sees = Box::new(|_, _| true)) };
            let mut trial = Trial { lineup, by_head: false, few: vec![0] };
            trial.add(Fitted::No, &whole, || "the step reads the whole prompt, not the cache after eviction".into());
        }
    }
    let steps = right.k.shape()[1] - cached;
    let mut trial = Trial { lineup, by_head: false, few: vec![0] };
    let hidden = right.with(|a| a.sees = Box::new(move |_, j| j < cached));
    trial.add(Fitted::No, &hidden, || "the step sees no generated token".into());
    if steps > 1 {
        let own = cached + steps - 1;
        let hidden = right.with(|a| a.sees = Box::new(move |_, j| j < cached || j == own));
        trial.add(Fitted::No, &hidden, || "the step does not see the generated tokens before its own".into());
    }
}
