//! How votes become importances, and the statistics of a layer that decide the layers' budgets.

use super::attend::PackedKeys;
use super::sight::Sight;
use super::window::select;
use super::{Budget, Heads, Keys, LayerScores, Observed, Score, stats, stored};
use crate::error::{Error, Result};
use crate::num::{Random, Real};
use ndarray::{Array2, s};
use rayon::prelude::*;

/// The attention of one query head's window, summed over the window's rows.
struct Votes<T> {
    /// \[n\], zero at keys that the head does not look at.
    sum: Vec<T>,
    /// What the budget rule reads off the rows: a sum, and what it is divided by.
    read: (f64, f64),
}

/// Scores one layer. An error for NaN names the layer and the token. Spec: E8.3, E8.4, C8.4e, D9.2, C9.1b
pub(super) fn score<T: Real>(
    sight: &Sight,
    layer: usize,
    seen: &Observed<'_, T>,
    given: Option<Vec<Vec<usize>>>,
) -> Result<LayerScores> {
    let policy = &sight.policy;
    seen.check(layer, sight.n, &sight.rows)?;
    let kv_heads = seen.k.shape()[0];
    let sets = policy.sets(kv_heads);
    let mut window = vec![vec![]; sets];
    let mut spread = 1.0;
    let mut importance = Array2::zeros((sets, sight.candidates.len()));
    if sight.candidates.is_empty() {
        // There are no candidates to judge (A8.13).
    } else if !policy.measures() {
        importance.indexed_iter_mut().for_each(|((set, i), x)| *x = unattended(policy.score, layer, set, i));
    } else {
        let rows = if policy.votes() {
            window = match given {
                Some(window) => window,
                None => select(sight, layer, seen)?,
            };
            let (attention, read) = attention(sight, layer, seen, &window)?;
            spread = read;
            let mut rows = Vec::with_capacity(sets);
            for (set, a) in attention.into_iter().enumerate() {
                rows.push(match policy.score {
                    Score::Pool(kernel) => pool(a, &window[set], kernel, average),
                    Score::MaxPool(kernel) => pool(a, &window[set], kernel, largest),
                    Score::Mix(kernel) => {
                        let a = pool(a, &window[set], kernel, average);
                        stored::mix(
                            sight,
                            seen.k.slice(s![set, .., ..]),
                            seen.values(layer)?.slice(s![set, .., ..]),
                            a,
                            &window[set],
                        )
                    }
                    _ => a,
                });
            }
            rows
        } else {
            stored::scores(sight, layer, seen, sets)?
        };
        for (set, row) in rows.into_iter().enumerate() {
            importance.row_mut(set).iter_mut().zip(&sight.candidates).for_each(|(x, &i)| *x = row[i].to_f64());
        }
    }
    if let Some(((_, i), x)) = importance.indexed_iter().find(|(_, x)| !x.is_finite()) {
        let at = format!("layer {layer}: importance of token {i} (prompt row {})", sight.candidates[i]);
        return Err(
            Error::new(at, "a finite number", x).remedy("the queries or keys of this layer hold NaN or overflow")
        );
    }
    let of = |statistic| stats::over_sets(&importance, statistic);
    let (strength, skewness) = (of(stats::strength), of(stats::skewness));
    let weights = policy.split.weights(layer, sets)?;
    Ok(LayerScores { kv_heads, window, importance, strength, skewness, spread, weights })
}

/// The importance of every prompt row, [S][n], and what the budget rule reads. Spec: E8.4, C8.4d, E9.1, E9.9, E9.11
fn attention<T: Real>(
    sight: &Sight,
    layer: usize,
    seen: &Observed<'_, T>,
    window: &[Vec<usize>],
) -> Result<(Vec<Vec<T>>, f64)> {
    let policy = &sight.policy;
    let (mut sums, reads) = joined(sight, layer, seen, window, None)?;
    let heads = if policy.heads == Heads::KvMax { 1 } else { seen.q.shape()[0] / window.len() };
    let seeing = |window: &[usize], col: usize| match policy.causal() {
        true => window.len() - window.partition_point(|&row| row < col),
        false => window.len(),
    };
    let over = |count: usize| T::of((heads * count) as f64);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let spread = match policy.budget {
        Budget::Sparsity { .. } => mean(&reads.iter().map(|&share| stats::density(share)).collect::<Vec<_>>()),
        Budget::Entropy => libm::exp(mean(&reads)),
        Budget::Votes => {
            let given = |row: &Vec<T>| sight.candidates.iter().map(|&i| row[i].to_f64()).sum::<f64>();
            mean(&sums.iter().zip(window).map(|(row, w)| given(row) / (heads * w.len()) as f64).collect::<Vec<_>>())
        }
        _ => 1.0,
    };
    if policy.score == Score::TextWeighted {
        let weigh = |(row, w): (&Vec<T>, &Vec<usize>)| w.iter().map(|&i| row[i] / over(seeing(w, i))).collect();
        let weights: Vec<Vec<T>> = sums.iter().zip(window).map(weigh).collect();
        sums = joined(sight, layer, seen, window, Some(&weights))?.0;
    }
    for (sums, window) in sums.iter_mut().zip(window) {
        for (col, sum) in sums.iter_mut().enumerate() {
            *sum = *sum
                / over(match policy.score {
                    Score::Sum | Score::TextWeighted => 1,
                    Score::ReceivedMean => seeing(window, col).max(1),
                    _ => window.len(),
                });
        }
    }
    Ok((sums, spread))
}

/// The votes of every KV head for every prompt row, joined over the heads of a set, [S][n], and what the budget rule
/// reads off the rows, \[S\]. weights: [S][w], of the window's rows. Spec: A8.2, E9.10
fn joined<T: Real>(
    sight: &Sight,
    layer: usize,
    seen: &Observed<'_, T>,
    window: &[Vec<usize>],
    weights: Option<&[Vec<T>]>,
) -> Result<(Vec<Vec<T>>, Vec<f64>)> {
    let (kv_heads, sets) = (seen.k.shape()[0], window.len());
    let set = |g: usize| if sets == 1 { 0 } else { g };
    let mut sums = vec![vec![T::ZERO; sight.n]; sets];
    let mut reads = vec![(0.0, 0.0); sets];
    if sight.policy.needs_received() {
        let received = seen.received(layer)?;
        for g in 0..kv_heads {
            sums[set(g)].iter_mut().zip(received.row(g)).for_each(|(s, &r)| *s += r);
        }
    } else {
        let of = |g: usize| votes(sight, seen, g, &window[set(g)], weights.map(|w| &w[set(g)][..]));
        let votes: Vec<Vec<Votes<T>>> = (0..kv_heads).into_par_iter().map(of).collect();
        let largest = sight.policy.heads == Heads::KvMax;
        for (g, head) in votes.iter().enumerate().flat_map(|(g, heads)| heads.iter().map(move |head| (g, head))) {
            let join = |(s, &v): (&mut T, &T)| *s = if largest { s.max(v) } else { *s + v };
            sums[set(g)].iter_mut().zip(&head.sum).for_each(join);
            reads[set(g)] = (reads[set(g)].0 + head.read.0, reads[set(g)].1 + head.read.1);
        }
    }
    Ok((sums, reads.into_iter().map(|(sum, count): (f64, f64)| sum / count.max(1.0)).collect()))
}

/// The votes of the query heads of KV head `g`. Spec: E8.3, A8.3, A8.4
// ANCHOR: votes
fn votes<T: Real>(
    sight: &Sight,
    seen: &Observed<'_, T>,
    g: usize,
    window: &[usize],
    weights: Option<&[T]>,
) -> Vec<Votes<T>> {
    let policy = &sight.policy;
    let cols = match policy.keys {
        Keys::All | Keys::Causal => (0..sight.n).collect(),
        Keys::Elite => {
            let mut cols = [&sight.candidates[..], window].concat();
            cols.sort_unstable();
            cols.dedup();
            cols
        }
    };
    let causal = policy.causal();
    let keys = PackedKeys::new(seen.k.slice(s![g, .., ..]), cols, sight.grid);
    let mut p = vec![T::ZERO; keys.cols.len()];
    let mut heads = Vec::with_capacity(seen.group());
    for h in g * seen.group()..(g + 1) * seen.group() {
        let mut sum = vec![T::ZERO; keys.cols.len()];
        let mut read = (0.0, 0.0);
        for (i, &row) in window.iter().enumerate() {
            let reach = if causal { keys.causal(row) } else { keys.cols.len() };
            keys.attend(&seen.query(h, row), reach, &mut p);
            match weights {
                None => sum.iter_mut().zip(&p).for_each(|(s, &p)| *s += p),
                Some(w) => sum.iter_mut().zip(&p).for_each(|(s, &p)| *s += w[i] * p),
            }
            let (part, count) = match policy.budget {
                Budget::Sparsity { p: least } => (stats::reaching(&p[..reach], T::of(least)) as f64, reach as f64),
                Budget::Entropy => (stats::entropy(&p[..reach]), 1.0),
                _ => continue,
            };
            read = (read.0 + part, read.1 + count);
        }
        let mut spread = vec![T::ZERO; sight.n];
        keys.cols.iter().zip(sum).for_each(|(&c, s)| spread[c] = s);
        heads.push(Votes { sum: spread, read });
    }
    heads
}
// ANCHOR_END: votes

/// The mean of a pooling window: the divisor is always `kernel`.
fn average<T: Real>(near: &[T], kernel: usize) -> T {
    near.iter().fold(T::ZERO, |s, &v| s + v) / T::of(kernel as f64)
}

/// The maximum of a pooling window.
fn largest<T: Real>(near: &[T], _kernel: usize) -> T {
    near.iter().fold(T::ZERO, |s, &v| s.max(v))
}

/// Pooling over prompt positions, as `avg_pool1d` and `max_pool1d` with padding ⌊kernel/2⌋. Positions outside the
/// prompt count 0, and so do the window's own columns (unless every row votes). a: \[n\] → \[n\].
/// Spec: E9.3, E9.10, C9.3b
fn pool<T: Real>(mut a: Vec<T>, window: &[usize], kernel: usize, of: impl Fn(&[T], usize) -> T) -> Vec<T> {
    if window.len() < a.len() {
        window.iter().for_each(|&row| a[row] = T::ZERO);
    }
    let reach = kernel / 2;
    let at = |i: usize| of(&a[i.saturating_sub(reach)..(i + reach + 1).min(a.len())], kernel);
    (0..a.len()).map(at).collect()
}

/// Importances that do not use attention, above 0: candidate i of `set` in `layer`. Spec: E9.4, C9.4a
fn unattended(score: Score, layer: usize, set: usize, i: usize) -> f64 {
    match score {
        Score::Random(seed) => {
            let parts = [layer as u64, set as u64, i as u64];
            let z = parts.iter().fold(seed, |z, part| Random::new(z ^ part).bits());
            ((z >> 11) + 1) as f64 / (1u64 << 53) as f64
        }
        _ => (i + 1) as f64,
    }
}
