//! RMS norm and layer norm of rows. Naive twins: [`super::naive`].

use super::scratch::array;
use super::simd::vectorize;
use super::team::share;
use crate::num::{Grid, Real, sum_of};
use ndarray::{Array2, ArrayView2};

/// y = ⟨⟨x / √(mean x² + ε)⟩ · w⟩, one row at a time.
///
/// x: [n, d], w: \[d\] → [n, d]. The normalised row is stored in the first grid before it is scaled, as Qwen2's code does;
/// the product is stored in the second. Spec: E3.10, R3.10, A3.10
pub fn rms_norm<T: Real>(x: ArrayView2<'_, T>, w: &[f32], eps: f64, [normed, product]: [Grid; 2]) -> Array2<T> {
    rows(
        x,
        #[inline(always)]
        |x| {
            let d = T::of(x.len() as f64);
            let scale = T::ONE / (sum_of(x, |v| v * v) / d + T::of(eps)).sqrt();
            for (x, &w) in x.iter_mut().zip(w) {
                *x = normed.round(*x * scale) * T::of_f32(w);
            }
            product.round_all(x);
        },
    )
}

/// y = ⟨(x − μ) / √(σ² + ε) · w + b⟩, one row at a time; σ² is the mean of the squared deviations.
///
/// x: [n, d], w, b: \[d\] → [n, d]. Spec: E3.11, R3.11
pub fn layer_norm<T: Real>(x: ArrayView2<'_, T>, w: &[f32], b: &[f32], eps: f64, grid: Grid) -> Array2<T> {
    rows(
        x,
        #[inline(always)]
        |x| {
            let d = T::of(x.len() as f64);
            let mean = sum_of(x, |v| v) / d;
            let scale = T::ONE / (sum_of(x, |v| (v - mean) * (v - mean)) / d + T::of(eps)).sqrt();
            for (x, (&w, &b)) in x.iter_mut().zip(w.iter().zip(b)) {
                *x = (*x - mean) * scale * T::of_f32(w) + T::of_f32(b);
            }
            grid.round_all(x);
        },
    )
}

/// Returns a copy of x, with `f` applied to each row.
fn rows<T: Real>(x: ArrayView2<'_, T>, f: impl Fn(&mut [T]) + Sync) -> Array2<T> {
    let (x, mut y) = (x.as_standard_layout(), array(x.nrows(), x.ncols()));
    let (Some(from), Some(to)) = (x.as_slice(), y.as_slice_mut()) else { unreachable!("E3.10: row-major") };
    let d = x.ncols().max(1);
    let rows = x.nrows().div_ceil(4 * rayon::current_num_threads()).max(1);
    share(to.chunks_mut(rows * d).zip(from.chunks(rows * d)), |(to, from)| {
        vectorize(
            #[inline(always)]
            || {
                for (row, from) in to.chunks_exact_mut(d).zip(from.chunks_exact(d)) {
                    row.copy_from_slice(from);
                    f(row);
                }
            },
        )
    });
    y
}
