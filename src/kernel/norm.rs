//! RMS norm and layer norm of rows. Naive twins: [`super::naive`].

use super::simd::vectorize;
use crate::num::{Grid, Real, sum_of};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// y = grid(x / √(mean x² + ε)) · w, one row at a time.
///
/// x: [n, d], w: \[d\] → [n, d]. The normalised row is stored before it is scaled, as Qwen2's code does (R3.10); the
/// caller stores the product. Spec: E3.10, A3.10
pub fn rms_norm<T: Real>(x: ArrayView2<'_, T>, w: &[f32], eps: f64, grid: Grid) -> Array2<T> {
    rows(x, |x| {
        let d = T::of(x.len() as f64);
        let scale = T::ONE / (sum_of(x, |v| v * v) / d + T::of(eps)).sqrt();
        for (x, &w) in x.iter_mut().zip(w) {
            *x = grid.round(*x * scale) * T::of_f32(w);
        }
    })
}

/// y = (x − μ) / √(σ² + ε) · w + b, one row at a time; σ² is the mean of the squared deviations.
///
/// x: [n, d], w, b: \[d\] → [n, d]; the caller stores the result (R3.11). Spec: E3.11
pub fn layer_norm<T: Real>(x: ArrayView2<'_, T>, w: &[f32], b: &[f32], eps: f64) -> Array2<T> {
    rows(x, |x| {
        let d = T::of(x.len() as f64);
        let mean = sum_of(x, |v| v) / d;
        let scale = T::ONE / (sum_of(x, |v| (v - mean) * (v - mean)) / d + T::of(eps)).sqrt();
        for (x, (&w, &b)) in x.iter_mut().zip(w.iter().zip(b)) {
            *x = (*x - mean) * scale * T::of_f32(w) + T::of_f32(b);
        }
    })
}

/// Returns a copy of x, with `f` applied to each row.
fn rows<T: Real>(x: ArrayView2<'_, T>, f: impl Fn(&mut [T]) + Sync) -> Array2<T> {
    let mut y = x.as_standard_layout().into_owned();
    let d = y.ncols().max(1);
    let Some(all) = y.as_slice_mut() else { unreachable!("E3.10: y is row-major") };
    all.par_chunks_mut(d).for_each(|row| {
        vectorize(
            #[inline(always)]
            || f(row),
        )
    });
    y
}
