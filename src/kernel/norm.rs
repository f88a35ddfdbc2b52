//! RMS norm and layer norm of rows. Naive twins: [`super::naive`].

use super::scratch::array;
use super::simd::vectorize;
use crate::num::{Grid, Real, sum_of};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// y = ⟨⟨x / √(mean x² + ε)⟩ · w⟩, one row at a time.
///
/// x: [n, d], w: \[d\] → [n, d]. The normalised row is stored in the first grid before it is scaled, as Qwen2's code does;
/// the product is stored in the second. Spec: E3.10, R3.10, A3.10
pub fn rms_norm<T: Real>(x: ArrayView2<'_, T>, w: &[f32], eps: f64, [normed, product]: [Grid; 2]) -> Array2<T> {
    rows(x, |x| {
        let d = T::of(x.len() as f64);
        let scale = T::ONE / (sum_of(x, |v| v * v) / d + T::of(eps)).sqrt();
        for (x, &w) in x.iter_mut().zip(w) {
            *x = normed.round(*x * scale) * T::of_f32(w);
        }
        product.round_all(x);
    })
}

/// y = ⟨(x − μ) / √(σ² + ε) · w + b⟩, one row at a time; σ² is the mean of the squared deviations.
///
/// x: [n, d], w, b: \[d\] → [n, d]. Spec: E3.11, R3.11
pub fn layer_norm<T: Real>(x: ArrayView2<'_, T>, w: &[f32], b: &[f32], eps: f64, grid: Grid) -> Array2<T> {
    rows(x, |x| {
        let d = T::of(x.len() as f64);
        let mean = sum_of(x, |v| v) / d;
        let scale = T::ONE / (sum_of(x, |v| (v - mean) * (v - mean)) / d + T::of(eps)).sqrt();
        for (x, (&w, &b)) in x.iter_mut().zip(w.iter().zip(b)) {
            *x = (*x - mean) * scale * T::of_f32(w) + T::of_f32(b);
        }
        grid.round_all(x);
    })
}

/// Returns a copy of x, with `f` applied to each row.
fn rows<T: Real>(x: ArrayView2<'_, T>, f: impl Fn(&mut [T]) + Sync) -> Array2<T> {
    let (x, mut y) = (x.as_standard_layout(), array(x.nrows(), x.ncols()));
    let (Some(from), Some(to)) = (x.as_slice(), y.as_slice_mut()) else { unreachable!("E3.10: row-major") };
    let d = x.ncols().max(1);
    to.par_chunks_mut(d).zip(from.par_chunks(d)).for_each(|(row, from)| {
        row.copy_from_slice(from);
        vectorize(
            #[inline(always)]
            || f(row),
        )
    });
    y
}
