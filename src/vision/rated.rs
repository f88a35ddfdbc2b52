//! What rows of a tower give to each row in one layer, for policies that drop visual rows before the decoder.

use crate::num::{Grid, Real};
use crate::pass::{Pass, by_head};
use crate::policy::{Rate, Rater, votes, votes_of_rows};
use ndarray::{Array2, Axis, concatenate, s};

/// The ratings of a layer, [rows, 1]: the vote of each row. If keys are asked for, [rows, 1 + d_h]: also the mean of the
/// row's keys over heads. q, k: [rows, d_v]; lengths: the length of each segment. The first row of each segment rates, or
/// all rows do. Spec: E9.30, E9.31, E9.35, R9.30
pub(super) fn rated<T: Real>(
    pass: &Pass<'_, T>,
    (q, k): (&Array2<T>, &Array2<T>),
    heads: usize,
    lengths: &[usize],
    rate: Rate,
) -> Array2<T> {
    // An implementation that does not store its attention does not store votes either.
    let grid = if pass.way.fused { Grid::Native } else { pass.grid };
    let (q, k) = (by_head(q, heads), by_head(k, heads));
    let (mut all, mut first) = (Vec::with_capacity(q.shape()[1]), 0);
    for &length in lengths {
        let (queries, keys) = (q.slice(s![.., first..first + length, ..]), k.slice(s![.., first..first + length, ..]));
        all.extend(match rate.by {
            Rater::Class => votes(queries.slice(s![.., 0, ..]), keys, grid),
            _ => votes_of_rows(queries, keys, grid),
        });
        first += length;
    }
    let votes = Array2::from_shape_fn((all.len(), 1), |(row, _)| all[row]);
    if !rate.keys {
        return votes;
    }
    let sum = k.outer_iter().fold(Array2::from_elem((all.len(), k.dim().2), T::ZERO), |sum, k| sum + k);
    let mean = sum.mapv(|sum| pass.grid.round(sum / T::of(heads as f64)));
    concatenate(Axis(1), &[votes.view(), mean.view()]).unwrap_or_else(|_| unreachable!("E9.35: a key for each row"))
}

/// No ratings: nobody asks for them.
pub(super) fn unrated<T: Real>() -> Array2<T> {
    Array2::from_elem((0, 0), T::ZERO)
}

/// The ratings of groups of tiles, one after the other; none if there are none.
pub(super) fn stacked<T: Real>(groups: &[Array2<T>]) -> Array2<T> {
    let views: Vec<_> = groups.iter().map(|group| group.view()).collect();
    match views.is_empty() {
        true => unrated(),
        false => concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E9.30: ratings of one width")),
    }
}
