//! What rows of a tower give to each row in one layer, for policies that drop visual rows before the decoder.

use crate::num::{Grid, Real};
use crate::pass::{Pass, by_head};
use crate::policy::{Rater, votes, votes_of_rows};
use ndarray::{Array2, s};

/// The votes of a layer: \[rows\]. q, k: [rows, d_v]; lengths: the length of each segment; by: `Class`, the first row of
/// each segment, or all rows. Spec: E9.30, E9.31, R9.30
pub(super) fn rated<T: Real>(
    pass: &Pass<'_, T>,
    (q, k): (&Array2<T>, &Array2<T>),
    heads: usize,
    lengths: &[usize],
    by: Rater,
) -> Vec<T> {
    // An implementation that does not store its attention does not store votes either.
    let grid = if pass.way.fused { Grid::Native } else { pass.grid };
    let (q, k) = (by_head(q, heads), by_head(k, heads));
    let (mut all, mut first) = (Vec::with_capacity(q.shape()[1]), 0);
    for &length in lengths {
        let (queries, keys) = (q.slice(s![.., first..first + length, ..]), k.slice(s![.., first..first + length, ..]));
        all.extend(match by {
            Rater::Class => votes(queries.slice(s![.., 0, ..]), keys, grid),
            _ => votes_of_rows(queries, keys, grid),
        });
        first += length;
    }
    all
}
