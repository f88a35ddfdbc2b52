//! Expected Attention: what the queries after the prompt are expected to give each key, times the norm of its value.
//! Source: arXiv 2510.00636; kvpress, `ExpectedAttentionPress`. Not here: the statistics of queries (future.rs).

use super::future::SINKS;
use super::sight::Sight;
use super::unit::{norms, product};
use super::{Heads, Observed};
use crate::error::Result;
use crate::kernel::simd::vectorize;
use crate::kernel::softmax;
use crate::num::{Grid, LANES, Real};
use ndarray::{ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

/// Keys whose products with a part of a covariance are taken together.
const AT_ONCE: usize = 32;

/// The importance of every prompt row to each KV head, [G][n]; 0 of the first rows. Spec: E9.38
///
/// # Errors
/// The values, or the statistics of queries, are not given.
pub(super) fn heads<T: Real>(sight: &Sight, layer: usize, seen: &Observed<'_, T>) -> Result<Vec<Vec<T>>> {
    let (future, v, group) = (seen.future(layer)?, seen.values(layer)?, seen.group());
    let of_query_head = |h: usize| {
        let keys = seen.k.slice(s![h / group, SINKS.min(sight.n).., ..]);
        weights(keys, future.mean.row(h), future.covariance.slice(s![h, .., ..]), sight.grid)
    };
    let each: Vec<Vec<T>> = (0..future.mean.nrows()).into_par_iter().map(of_query_head).collect();
    let of_head = |(g, heads): (usize, &[Vec<T>])| {
        let mut a = vec![T::ZERO; heads[0].len()];
        for p in heads {
            match sight.policy.heads {
                Heads::KvMax => a.iter_mut().zip(p).for_each(|(a, &p)| *a = a.max(p)),
                _ => a.iter_mut().zip(p).for_each(|(a, &p)| *a += p),
            }
        }
        let count = if sight.policy.heads == Heads::KvMax { T::ONE } else { T::of(group as f64) };
        let long = norms(v.slice(s![g, .., ..]), sight.grid);
        let scored = a.iter().zip(long.iter().skip(SINKS)).map(|(&a, &long)| sight.grid.round(a / count) * long);
        let sinks = std::iter::repeat_n(T::ZERO, SINKS.min(sight.n));
        sinks.chain(scored.map(|x| sight.grid.round(x))).collect()
    };
    Ok(each.chunks(group).enumerate().map(of_head).collect())
}

/// Gives the first rows more than any other row of the layer has. rows: [S][n]. Spec: E9.38
pub(super) fn sinks_first<T: Real>(rows: &mut [Vec<T>]) {
    let most = rows.iter().flatten().fold(T::ZERO, |most, &x| most.max(x));
    rows.iter_mut().flat_map(|row| row.iter_mut().take(SINKS)).for_each(|x| *x = most + T::ONE);
}

/// softmax over keys of k·μ/√d + kᵀΣk/2d. k: [n, d_h], mean: \[d_h\], covariance: [d_h, d_h] → \[n\].
/// Spec: E9.38, R9.38
fn weights<T: Real>(
    k: ArrayView2<'_, T>,
    mean: ArrayView1<'_, T>,
    covariance: ArrayView2<'_, T>,
    grid: Grid,
) -> Vec<T> {
    let d = k.ncols();
    let (root, twice) = (T::of(d as f64).sqrt(), T::of(2.0 * d as f64));
    let (mean, covariance) = (mean.to_vec(), covariance.iter().copied().collect::<Vec<T>>());
    let mut z: Vec<T> = Vec::with_capacity(k.nrows());
    for keys in k.axis_chunks_iter(Axis(0), AT_ONCE) {
        let keys: Vec<T> = keys.iter().copied().collect();
        let mut turned = vec![T::ZERO; keys.len()];
        vectorize(
            #[inline(always)]
            || times(&keys, &covariance, d, &mut turned),
        );
        for (k, turned) in keys.chunks_exact(d).zip(turned.chunks_exact(d)) {
            let (linear, square) = (product(k, &mean) / root, product(k, turned) / twice);
            z.push(grid.round(grid.round(linear) + grid.round(square)));
        }
    }
    softmax(&mut z);
    grid.round_all(&mut z);
    z
}

/// kᵀΣ of each key, over the rows of Σ ascending. k: [rows, d], covariance: [d, d] → [rows, d].
#[inline(always)]
fn times<T: Real>(k: &[T], covariance: &[T], d: usize, out: &mut [T]) {
    for begin in (0..d).step_by(LANES) {
        let end = d.min(begin + LANES);
        for (k, out) in k.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            let mut sums = [T::ZERO; LANES];
            for (line, &k) in covariance.chunks_exact(d).zip(k) {
                match <&[T; LANES]>::try_from(&line[begin..end]) {
                    Ok(line) => {
                        for j in 0..LANES {
                            sums[j] += k * line[j];
                        }
                    }
                    Err(_) => sums.iter_mut().zip(&line[begin..end]).for_each(|(s, &c)| *s += k * c),
                }
            }
            out[begin..end].copy_from_slice(&sums[..end - begin]);
        }
    }
}
