//! Products and norms of rows, and rows divided by their norms.

use crate::num::{Grid, Real, sum};
use ndarray::{Array2, ArrayView2};

/// a·b in the canonical order of a sum. Spec: E2.6
pub(super) fn product<'a, T: Real>(a: impl IntoIterator<Item = &'a T>, b: &[T]) -> T {
    sum(&a.into_iter().zip(b).map(|(&a, &b)| a * b).collect::<Vec<_>>())
}

/// ‖x_j‖ of each row. x: [n, d_h] → \[n\]. Spec: E9.13, E9.14
pub(super) fn norms<T: Real>(x: ArrayView2<'_, T>, grid: Grid) -> Vec<T> {
    let norm = |row: ndarray::ArrayView1<'_, T>| sum(&row.iter().map(|&v| v * v).collect::<Vec<_>>()).sqrt();
    x.outer_iter().map(|row| grid.round(norm(row))).collect()
}

/// The rows divided by their norms. A row of zeros stays zero. x: [n, d] → [n, d]. Spec: E9.12, E9.32
pub(super) fn units<T: Real>(x: ArrayView2<'_, T>, grid: Grid) -> Array2<T> {
    let norms = norms(x, grid);
    let unit = |norm: T| if norm > T::ZERO { norm } else { T::ONE };
    Array2::from_shape_fn(x.dim(), |(j, i)| grid.round(x[[j, i]] / unit(norms[j])))
}
