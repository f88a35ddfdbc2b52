//! Scores of what the cache stores: keys and values, without or beside attention. Not here: attention (score.rs).

use super::sight::Sight;
use super::unit::{norms, product, units};
use super::{Observed, Score, expected};
use crate::error::Result;
use crate::num::{Grid, Real, sum};
use ndarray::{Array2, ArrayView2, s};

/// The importance of every prompt row, [S][n]: the mean over the KV heads of a set. Spec: E9.12, E9.13, E9.14, E9.38
///
/// # Errors
/// The score reads values or the statistics of queries, and they are not given.
pub(super) fn scores<T: Real>(sight: &Sight, layer: usize, seen: &Observed<'_, T>, sets: usize) -> Result<Vec<Vec<T>>> {
    let heads = seen.k.shape()[0];
    let mut rows = vec![vec![T::ZERO; sight.n]; sets];
    let mut expected = match sight.policy.score {
        Score::Expected(_) => expected::heads(sight, layer, seen)?.into_iter(),
        _ => vec![].into_iter(),
    };
    for g in 0..heads {
        let k = seen.k.slice(s![g, .., ..]);
        let of_head = match sight.policy.score {
            Score::KeyDiff => keydiff(k, sight.grid),
            Score::ValueNorm => norms(seen.values(layer)?.slice(s![g, .., ..]), sight.grid),
            Score::KeyNorm => norms(k, sight.grid).into_iter().map(|norm| T::ONE / (T::ONE + norm)).collect(),
            Score::Expected(_) => expected.next().unwrap_or_else(|| unreachable!("E9.38: a row for each KV head")),
            other => unreachable!("D9.2: {other} is no score of keys or values alone"),
        };
        rows[g * sets / heads].iter_mut().zip(of_head).for_each(|(row, of_head)| *row += of_head);
    }
    let count = T::of((heads / sets) as f64);
    rows.iter_mut().flatten().for_each(|x| *x = *x / count);
    if let Score::Expected(_) = sight.policy.score {
        expected::sinks_first(&mut rows);
    }
    Ok(rows)
}

/// The rows divided by their norms, and the mean of these over all rows. A row of zeros stays zero.
/// k: [n, d_h] → [n, d_h], \[d_h\]. Spec: E9.12
fn directions<T: Real>(k: ArrayView2<'_, T>, grid: Grid) -> (Array2<T>, Vec<T>) {
    let rows = units(k, grid);
    let mean = |column: ndarray::ArrayView1<'_, T>| grid.round(sum(&column.to_vec()) / T::of(column.len() as f64));
    let mean = rows.columns().into_iter().map(mean).collect();
    (rows, mean)
}

/// 1 − the cosine between each key and the mean direction of all keys. k: [n, d_h] → \[n\]. Spec: E9.12
fn keydiff<T: Real>(k: ArrayView2<'_, T>, grid: Grid) -> Vec<T> {
    let (rows, mean) = directions(k, grid);
    let length = product(&mean, &mean).sqrt();
    let length = if length > T::ZERO { length } else { T::ONE };
    rows.outer_iter().map(|row| T::ONE - grid.round(product(row, &mean) / length)).collect()
}

/// Importance and diversity, mixed by how alike the keys of the head are. k, v: [n, d_h]; a: \[n\], the pooled attention
/// → \[n\]. Rows of the window keep their attention alone. Spec: E9.15
pub(super) fn mix<T: Real>(
    sight: &Sight,
    k: ArrayView2<'_, T>,
    v: ArrayView2<'_, T>,
    mut a: Vec<T>,
    window: &[usize],
) -> Vec<T> {
    let judged: Vec<usize> =
        sight.candidates.iter().copied().filter(|row| window.binary_search(row).is_err()).collect();
    let n = T::of(sight.n as f64);
    let (rows, mean) = directions(k, sight.grid);
    let alike = (n * product(&mean, &mean) - T::ONE) / (n - T::ONE).max(T::ONE);
    let alike = alike.max(T::ZERO);
    let attention: Vec<T> = judged.iter().map(|&j| a[j]).collect();
    let diverse = judged.iter().map(|&j| T::ZERO - product(rows.row(j), &mean)).collect();
    let diverse = scaled(diverse, &attention);
    let long = norms(v, sight.grid);
    let long = scaled(judged.iter().map(|&j| long[j]).collect(), &attention);
    for (i, &j) in judged.iter().enumerate() {
        a[j] = alike * diverse[i] + (T::ONE - alike) * (attention[i] + long[i]);
    }
    a
}

/// Numbers moved to 0 … 1 and then scaled to the mean of `like`; all 0 if they are equal. Spec: E9.15
fn scaled<T: Real>(x: Vec<T>, like: &[T]) -> Vec<T> {
    if x.is_empty() {
        return x;
    }
    let least = x.iter().copied().fold(x[0], |a, b| if b < a { b } else { a });
    let most = x.iter().copied().fold(x[0], T::max);
    if most <= least {
        return vec![T::ZERO; x.len()];
    }
    let unit: Vec<T> = x.iter().map(|&x| (x - least) / (most - least)).collect();
    let factor = sum(like) / sum(&unit);
    unit.into_iter().map(|x| x * factor).collect()
}
