//! How votes become importances, and the statistics of a layer that decide the layers' budgets.

use super::attend::PackedKeys;
use super::sight::Sight;
use super::window::select;
use super::{Budget, Keys, LayerScores, Observed, Score, stats};
use crate::error::{Error, Result};
use crate::num::{Random, Real};
use ndarray::{Array2, s};
use rayon::prelude::*;

/// The attention of one query head's window, summed over the window's rows.
struct Votes<T> {
    /// \[n\], zero at keys that the head does not look at.
    sum: Vec<T>,
    /// The number of entries that reach p times their row's maximum, and the number of all entries.
    dense: (u64, u64),
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
    let mut density = 1.0;
    let mut importance = Array2::zeros((sets, sight.candidates.len()));
    if sight.candidates.is_empty() {
        // There are no candidates to judge (A8.13).
    } else if !policy.votes() {
        importance.indexed_iter_mut().for_each(|((set, i), x)| *x = unattended(policy.score, layer, set, i));
    } else {
        window = match given {
            Some(window) => window,
            None => select(sight, layer, seen)?,
        };
        let (attention, dense) = attention(sight, layer, seen, &window)?;
        density = dense;
        for (set, a) in attention.into_iter().enumerate() {
            let a = match policy.score {
                Score::Pool(kernel) => pool(a, &window[set], kernel),
                _ => a,
            };
            importance.row_mut(set).iter_mut().zip(&sight.candidates).for_each(|(x, &row)| *x = a[row].to_f64());
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
    Ok(LayerScores { kv_heads, window, importance, strength, skewness, density })
}

/// The importance of every prompt row, [S][n], and the density. Spec: E8.4, C8.4d, E9.1, E9.7
fn attention<T: Real>(
    sight: &Sight,
    layer: usize,
    seen: &Observed<'_, T>,
    window: &[Vec<usize>],
) -> Result<(Vec<Vec<T>>, f64)> {
    let policy = &sight.policy;
    let (kv_heads, group, sets) = (seen.k.shape()[0], seen.group(), window.len());
    let set = |g: usize| if sets == 1 { 0 } else { g };
    let mut sums = vec![vec![T::ZERO; sight.n]; sets];
    let mut dense = vec![(0, 0); sets];
    if policy.needs_received() {
        let received = seen.received(layer)?;
        for g in 0..kv_heads {
            sums[set(g)].iter_mut().zip(received.row(g)).for_each(|(s, &r)| *s += r);
        }
    } else {
        let votes: Vec<Vec<Votes<T>>> =
            (0..kv_heads).into_par_iter().map(|g| votes(sight, seen, g, &window[set(g)])).collect();
        for (g, head) in votes.iter().enumerate().flat_map(|(g, heads)| heads.iter().map(move |head| (g, head))) {
            sums[set(g)].iter_mut().zip(&head.sum).for_each(|(s, &v)| *s += v);
            dense[set(g)] = (dense[set(g)].0 + head.dense.0, dense[set(g)].1 + head.dense.1);
        }
    }
    for (sums, window) in sums.iter_mut().zip(window) {
        let rows = if policy.score == Score::Sum { 1 } else { window.len() };
        let count = T::of((kv_heads * group / sets * rows) as f64);
        sums.iter_mut().for_each(|s| *s = *s / count);
    }
    let density = match policy.budget {
        Budget::Sparsity { .. } => dense.iter().map(|&(d, all)| stats::density(d, all)).sum::<f64>() / sets as f64,
        _ => 1.0,
    };
    Ok((sums, density))
}

/// The votes of the query heads of KV head `g`. Spec: E8.3, A8.3, A8.4
// ANCHOR: votes
fn votes<T: Real>(sight: &Sight, seen: &Observed<'_, T>, g: usize, window: &[usize]) -> Vec<Votes<T>> {
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
        let mut dense = (0, 0);
        for &row in window {
            let reach = if causal { keys.causal(row) } else { keys.cols.len() };
            keys.attend(&seen.query(h, row), reach, &mut p);
            sum.iter_mut().zip(&p).for_each(|(s, &p)| *s += p);
            if let Budget::Sparsity { p: least } = policy.budget {
                dense.0 += stats::reaching(&p[..reach], T::of(least));
                dense.1 += reach as u64;
            }
        }
        let mut spread = vec![T::ZERO; sight.n];
        keys.cols.iter().zip(sum).for_each(|(&c, s)| spread[c] = s);
        heads.push(Votes { sum: spread, dense });
    }
    heads
}
// ANCHOR_END: votes

/// Average pooling over prompt positions, as `avg_pool1d` with padding ⌊kernel/2⌋. Positions outside the prompt count
/// 0, and so do the window's own columns (unless every row votes). The divisor is always `kernel`. a: \[n\] → \[n\].
/// Spec: E9.3, C9.3b
fn pool<T: Real>(mut a: Vec<T>, window: &[usize], kernel: usize) -> Vec<T> {
    if window.len() < a.len() {
        window.iter().for_each(|&row| a[row] = T::ZERO);
    }
    let (reach, count) = (kernel / 2, T::of(kernel as f64));
    let at = |i: usize| {
        let near = &a[i.saturating_sub(reach)..(i + reach + 1).min(a.len())];
        near.iter().fold(T::ZERO, |s, &v| s + v) / count
    };
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
