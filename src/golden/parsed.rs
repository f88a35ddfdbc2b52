//! Lists, sets and scores of a bundle. A bundle is not trusted: a value that does not fit counts as missing.

use super::Bundle;
use crate::policy::NOWHERE;
use crate::stage::{Site, Stage};
use ndarray::{Array2, ArrayD};
use safetensors::Dtype;

/// A list of finite numbers.
pub(super) fn vector(bundle: &Bundle, name: &str) -> Option<Vec<f64>> {
    let values = bundle.get(name).and_then(|_| bundle.f64(name).ok())?;
    values.iter().all(|v| v.is_finite()).then(|| values.iter().copied().collect())
}

/// Finite importances of a layer: [sets, N_c].
pub(super) fn importance(bundle: &Bundle, l: usize, sets: usize) -> Option<Array2<f64>> {
    let name = Stage::layer(Site::Importance, l).name();
    let values = bundle.get(&name).and_then(|_| bundle.f64(&name).ok())?;
    let n = values.len() / sets.max(1);
    let values = values.into_shape_with_order((sets, n)).ok()?;
    values.iter().all(|v| v.is_finite()).then_some(values)
}

/// The destination of each visual row, [n_v]; none if the values are no rows, or if a row goes into one that is no
/// target. Spec: E9.35
pub(super) fn into(bundle: &Bundle, visual: usize) -> Option<Vec<usize>> {
    let name = Stage::layer(Site::Into, 0).name();
    let values = bundle.get(&name).filter(|t| t.shape == [visual]).and_then(|_| bundle.i64(&name).ok())?;
    let row = |&v: &i64| if v == -1 { Some(NOWHERE) } else { usize::try_from(v).ok().filter(|&v| v < visual) };
    let into: Vec<usize> = values.iter().map(row).collect::<Option<_>>()?;
    into.iter().all(|&target| target == NOWHERE || into[target] == target).then_some(into)
}

/// Windows as sets of rows: \[S\]\[w\]; none if the values are no sets of prompt rows.
pub(super) fn window(bundle: &Bundle, name: &str, sets: usize, n: usize) -> Option<Vec<Vec<usize>>> {
    let values = bundle.get(name).and_then(|_| bundle.i64(name).ok())?;
    if values.ndim() == 2 && values.shape() == [sets, n] {
        let rows = |mask: ndarray::ArrayView1<'_, i64>| (0..n).filter(|&i| mask[i] != 0).collect();
        let values = values.into_dimensionality::<ndarray::Ix2>().ok()?;
        return Some(values.outer_iter().map(rows).collect());
    }
    if values.ndim() != 1 || sets != 1 { None } else { Some(vec![ascending(values.iter(), n)?]) }
}

/// Kept sets, as lists or as a mask: [S][·]; none if the values are no ascending candidates.
pub(super) fn kept(bundle: &Bundle, name: &str, sets: usize, candidates: usize) -> Option<Vec<Vec<usize>>> {
    let values = bundle.get(name).and_then(|_| bundle.i64(name).ok())?;
    let is_mask = values.shape() == [sets, candidates] && values.iter().all(|v| matches!(v, 0 | 1));
    if bundle.get(name)?.dtype == Dtype::U8 || (is_mask && candidates > 2) {
        let mask = values.into_shape_with_order((sets, candidates)).ok()?;
        return Some(mask.outer_iter().map(|row| (0..candidates).filter(|&i| row[i] != 0).collect()).collect());
    }
    let b = values.len() / sets.max(1);
    let values = values.into_shape_with_order((sets, b)).ok()?;
    values.outer_iter().map(|row| ascending(row.iter(), candidates)).collect()
}

/// The number of candidates that the kept sets of a layer have in the mean; none if that is no whole number.
pub(super) fn mean(sets: &[Vec<usize>]) -> Option<usize> {
    let all: usize = sets.iter().map(Vec::len).sum();
    (!sets.is_empty() && all.is_multiple_of(sets.len())).then(|| all / sets.len())
}

/// Budgets of layers, from \[L\] or [L, G]; none if they are no such numbers, or if the heads of a layer do not share a
/// whole number each. Spec: D9.7
pub(super) fn per_set(budget: &ArrayD<i64>, layers: usize) -> Option<Vec<usize>> {
    let heads = if budget.ndim() == 2 { budget.shape()[1].max(1) } else { 1 };
    let all: Vec<usize> = budget.iter().map(|&b| usize::try_from(b).ok()).collect::<Option<_>>()?;
    let mean = |heads_of: &[usize]| {
        let sum = heads_of.iter().try_fold(0usize, |sum, &b| sum.checked_add(b))?;
        sum.is_multiple_of(heads).then_some(sum / heads)
    };
    (all.len() == layers * heads && budget.ndim() < 3).then(|| all.chunks(heads).map(mean).collect())?
}

fn ascending<'a>(values: impl Iterator<Item = &'a i64>, limit: usize) -> Option<Vec<usize>> {
    let values: Vec<usize> = values.map(|&v| usize::try_from(v).ok()).collect::<Option<_>>()?;
    let ok = values.windows(2).all(|v| v[0] < v[1]) && values.last().is_none_or(|&v| v < limit);
    ok.then_some(values)
}
