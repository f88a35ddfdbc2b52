//! Dominant and contextual rows: before the decoder, some visual rows stay as they are, and others are merged into rows
//! that stay. Not here: who gives the votes and the keys, and what the projector makes of a sum of rows.
//!
//! Source: VisionZip, arXiv 2412.04467, and its code.

use super::attend::PackedKeys;
use super::best;
use super::unit::units;
use crate::num::{Grid, Real};
use ndarray::{Array2, ArrayView2, Axis};

/// The destination of a row that is not merged: the row stays as it is, or is dropped. In a bundle, −1. Spec: E9.35
pub const NOWHERE: usize = usize::MAX;

/// C: how many of `keep` rows are contextual, if `keyed` rows have keys. Spec: E9.35, A9.17
///
/// ```
/// assert_eq!([64, 128, 192].map(|keep| aircache::policy::contextual(keep, 576)), [10, 20, 30]);
/// ```
pub fn contextual(keep: usize, keyed: usize) -> usize {
    if keyed < keep { 0 } else { (5 * keep + 16) / 32 }
}

/// The rows that have a key: a row of zeros, such as a newline, has none. metric: [N_v, d_h]. Spec: E9.35
pub fn keyed<T: Real>(metric: ArrayView2<'_, T>) -> Vec<bool> {
    metric.outer_iter().map(|key| key.iter().any(|&k| k != T::ZERO)).collect()
}

/// The targets among the rows that are not dominant: every ⌊m/C⌋-th. others: m ascending rows; count: C. Spec: E9.35
pub fn targets(others: &[usize], count: usize) -> Vec<usize> {
    let step = (others.len() / count.max(1)).max(1);
    others.iter().copied().step_by(step).take(count).collect()
}

/// The destination of each row, \[N_v\], if `others` are the rows with keys that are not dominant, ascending. `count` of
/// them are targets. metric: [N_v, d_h]. Spec: E9.35, R9.35
pub fn destinations<T: Real>(metric: ArrayView2<'_, T>, others: &[usize], count: usize, grid: Grid) -> Vec<usize> {
    let mut into = vec![NOWHERE; metric.nrows()];
    let targets = targets(others, count);
    let alike = PackedKeys::unscaled(units(metric.select(Axis(0), &targets).view(), grid).view(), grid);
    let rows = units(metric.select(Axis(0), others).view(), grid);
    let mut cosines = vec![T::ZERO; targets.len()];
    for (&v, row) in others.iter().zip(rows.outer_iter()).filter(|_| count > 0) {
        alike.products(&row.to_vec(), &mut cosines);
        let nearest = (1..cosines.len()).fold(0, |best, i| if cosines[i] > cosines[best] { i } else { best });
        into[v] = if targets.binary_search(&v).is_ok() { v } else { targets[nearest] };
    }
    into
}

/// The destination of each visual row, \[N_v\], where `keep` rows stay. votes: \[N_v\]; metric: [N_v, d_h].
/// Spec: E9.35, R9.35
///
/// ```
/// use aircache::{num::Grid, policy::{NOWHERE, zip}};
/// let metric = ndarray::Array2::from_shape_fn((6, 2), |(v, i)| f64::from(u8::from(v % 2 == i)));
/// let into = zip(&[0.9, 0.8, 0.7, 0.1, 0.2, 0.3], metric.view(), 4, Grid::Native);
/// assert_eq!(into, [NOWHERE, NOWHERE, NOWHERE, 3, 3, 3]);
/// ```
pub fn zip<T: Real>(votes: &[f64], metric: ArrayView2<'_, T>, keep: usize, grid: Grid) -> Vec<usize> {
    let keyed = keyed(metric);
    let count = contextual(keep, keyed.iter().filter(|&&keyed| keyed).count());
    let dominant = best(votes, keep - count);
    let others: Vec<usize> = (0..votes.len()).filter(|v| keyed[*v] && dominant.binary_search(v).is_err()).collect();
    destinations(metric, &others, count, grid)
}

/// The `keep` visual rows that stay, ascending: dominant rows and targets. Spec: E9.35
pub fn unmerged(votes: &[f64], keyed: &[bool], into: &[usize], keep: usize) -> Vec<usize> {
    let stays = |&v: &usize| keyed[v] && (into[v] == v || into[v] == NOWHERE);
    match into.iter().all(|&target| target == NOWHERE) {
        true => best(votes, keep),
        false => (0..into.len()).filter(stays).collect(),
    }
}

/// The contextual rows, [targets, width]: each target, and the mean of the rows that go into it. rows: [N_v, width].
/// Spec: E9.36, R9.36
///
/// ```
/// use aircache::{num::Grid, policy::{NOWHERE, merged}};
/// let rows = ndarray::aview2(&[[1.0], [2.0], [3.0], [5.0]]);
/// assert_eq!(merged(rows, &[NOWHERE, 1, 1, 1], Grid::Native), ndarray::aview2(&[[6.0]]));
/// ```
pub fn merged<T: Real>(rows: ArrayView2<'_, T>, into: &[usize], grid: Grid) -> Array2<T> {
    let targets: Vec<usize> = (0..into.len()).filter(|&v| into[v] == v).collect();
    let mut merged = rows.select(Axis(0), &targets);
    for (&target, mut row) in targets.iter().zip(merged.outer_iter_mut()) {
        let others: Vec<usize> = (0..into.len()).filter(|&v| into[v] == target && v != target).collect();
        let count = T::of(others.len().max(1) as f64);
        for (i, x) in row.iter_mut().enumerate() {
            let sum = grid.round(others.iter().fold(T::ZERO, |sum, &v| sum + rows[[v, i]]));
            *x = grid.round(*x + grid.round(sum / count));
        }
    }
    merged
}
