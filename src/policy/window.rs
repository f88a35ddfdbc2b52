//! The rows that vote in a layer: the window. The elite window depends on the attention among the text.

use super::attend::PackedKeys;
use super::sight::Sight;
use super::{Heads, Observed, Window};
use crate::error::{Result, ensure};
use crate::num::{Grid, Real};
use ndarray::s;

/// The windows of one layer: \[S\]\[w\], S = 1, or G under `heads=kv`. Each is ascending and not empty.
/// Spec: E8.1, E8.2, A8.2
///
/// # Errors
/// NaN in the attention among the text.
pub(super) fn select<T: Real>(sight: &Sight, layer: usize, seen: &Observed<'_, T>) -> Result<Vec<Vec<usize>>> {
    let policy = &sight.policy;
    let kv_heads = seen.k.shape()[0];
    let sets = policy.sets(kv_heads);
    let alpha = match policy.window {
        Window::Elite { alpha } if policy.votes() => alpha,
        Window::AllQueries if policy.votes() => return Ok(vec![(0..sight.n).collect(); sets]),
        _ => return Ok(vec![sight.rows.clone(); sets]),
    };
    let text = &sight.rows;
    let sets = attention(sight, seen).into_iter().map(|att| {
        let chosen = elite(&att, T::of(alpha));
        ensure!(!chosen.is_empty(), format!("layer {layer}: attention of the last text row"), "finite numbers", "NaN");
        Ok(chosen.into_iter().map(|j| text[j]).collect())
    });
    let sets = sets.collect::<Result<Vec<Vec<usize>>>>()?;
    if policy.heads != Heads::Union {
        return Ok(sets);
    }
    let mut all = sets.concat();
    all.sort_unstable();
    all.dedup();
    Ok(vec![all])
}

/// The rows of Att from which elites are chosen, averaged over the heads that share an elite: \[A\]\[N_t\], A = 1, or G
/// under `heads=kv`, or H under `heads=union`. Spec: E8.1, A8.2
pub(super) fn attention<T: Real>(sight: &Sight, seen: &Observed<'_, T>) -> Vec<Vec<T>> {
    let att = text_attention(&sight.rows, seen, sight.grid);
    let mean = |heads: &[Vec<T>]| {
        let mut mean = vec![T::ZERO; sight.rows.len()];
        for row in heads {
            mean.iter_mut().zip(row).for_each(|(m, &a)| *m += a);
        }
        let count = T::of(heads.len() as f64);
        mean.iter_mut().for_each(|m| *m = *m / count);
        mean
    };
    match sight.policy.heads {
        Heads::Mean => vec![mean(&att)],
        Heads::Kv | Heads::KvMax => att.chunks(seen.group()).map(mean).collect(),
        Heads::Union => att.chunks(1).map(mean).collect(),
    }
}

/// The last row of Att, the softmax over the text keys alone: [H][N_t]. Spec: E8.1
// ANCHOR: text_attention
fn text_attention<T: Real>(text: &[usize], seen: &Observed<'_, T>, grid: Grid) -> Vec<Vec<T>> {
    let mut att = Vec::with_capacity(seen.q.shape()[0]);
    for g in 0..seen.k.shape()[0] {
        let keys = PackedKeys::new(seen.k.slice(s![g, .., ..]), text.to_vec(), grid);
        for h in g * seen.group()..(g + 1) * seen.group() {
            let mut p = vec![T::ZERO; text.len()];
            keys.attend(&seen.query(h, text[text.len() - 1]), text.len(), &mut p);
            att.push(p);
        }
    }
    att
}
// ANCHOR_END: text_attention

/// The elite of an attention row: the entries that reach α times the largest entry, ascending. Spec: E8.2, C8.2b
///
/// ```
/// assert_eq!(aircache::policy::elite(&[0.5, 0.05, 0.45], 0.9), [0, 2]);
/// ```
// ANCHOR: elite
pub fn elite<T: Real>(att: &[T], alpha: T) -> Vec<usize> {
    let max = att.iter().copied().fold(T::NEG_INFINITY, T::max);
    (0..att.len()).filter(|&j| att[j] >= alpha * max).collect()
}
// ANCHOR_END: elite
