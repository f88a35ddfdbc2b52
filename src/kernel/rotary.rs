//! Rotary position embedding.
//!
//! The angles are computed in f32 in every precision, because the programs that train and serve such checkpoints
//! compute them in f32 (A3.12): the angles belong to the model, not to the arithmetic. Cosine and sine are computed in
//! f64, the rotation in the container.

use crate::num::{Grid, Real};
use ndarray::{Array2, ArrayViewMut2, Zip};

/// cos and sin of every row's angles, both [n, d_h/2]. Spec: E3.12
#[derive(Debug, Clone)]
pub struct Angles<T> {
    /// cos(position · frequency).
    pub cos: Array2<T>,
    /// sin(position · frequency).
    pub sin: Array2<T>,
}

/// The frequencies 1 / θ^(2i/d_h), i < d_h/2: exponent, power and reciprocal each rounded to f32.
/// Spec: E3.12, C3.12a, A3.12
///
/// ```
/// assert_eq!(aircache::kernel::inverse_frequencies(10000.0, 4), [1.0, 0.01]);
/// ```
pub fn inverse_frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2).map(|i| 1.0 / (libm::pow(theta, exponent(i) as f64) as f32)).collect()
}

/// The frequencies 1 / (factor_i · θ^(2i/d_h)), i < d_h/2: exponent, power, product and reciprocal each rounded to f32.
/// Spec: E6.15
pub fn divided_frequencies(theta: f64, factors: &[f64]) -> Vec<f32> {
    let power = |i: usize| libm::pow(theta, f64::from((2 * i) as f32 / (2 * factors.len()) as f32)) as f32;
    factors.iter().enumerate().map(|(i, &factor)| 1.0 / (factor as f32 * power(i))).collect()
}

impl<T: Real> Angles<T> {
    /// The same cosines and sines times s, stored in `grid`. Spec: E6.15, R6.15
    pub fn scaled(self, s: f64, grid: Grid) -> Self {
        let times = |table: Array2<T>| table.mapv_into(|v| grid.round(v * T::of(s)));
        Angles { cos: times(self.cos), sin: times(self.sin) }
    }

    /// The angles position(row, i) · frequency_i, rounded to f32; their cosine and sine, stored in `grid` (R3.12).
    ///
    /// `position(row, i)` is the position that rotates dimension i of the row. It depends on i only in M-RoPE.
    /// Spec: E3.12, C3.12b
    pub fn new(rows: usize, frequencies: &[f32], position: impl Fn(usize, usize) -> i64, grid: Grid) -> Self {
        let angle = |(row, i): (usize, usize)| (position(row, i) as f32 * frequencies[i]) as f64;
        let table =
            |f: fn(f64) -> f64| Array2::from_shape_fn((rows, frequencies.len()), |at| grid.round(T::of(f(angle(at)))));
        Angles { cos: table(libm::cos), sin: table(libm::sin) }
    }

    /// Rotates every head of every row in place: (a, b) → (a·cos − b·sin, b·cos + a·sin); a and b are the two halves of
    /// a head.
    ///
    /// x: [n, heads · d_h]. The four products are stored before they are added (R3.13). Spec: E3.13
    pub fn rotate(&self, mut x: ArrayViewMut2<'_, T>, head_dim: usize, grid: Grid) {
        let half = head_dim / 2;
        Zip::from(x.rows_mut()).and(self.cos.rows()).and(self.sin.rows()).par_for_each(|mut row, cos, sin| {
            let Some(row) = row.as_slice_mut() else { unreachable!("E3.13: rows are contiguous") };
            for head in row.chunks_exact_mut(head_dim) {
                let (a, b) = head.split_at_mut(half);
                for i in 0..half {
                    let (c, s) = (cos[i], sin[i]);
                    let (ac, bs) = (grid.round(a[i] * c), grid.round(b[i] * s));
                    let (bc, as_) = (grid.round(b[i] * c), grid.round(a[i] * s));
                    a[i] = grid.round(ac - bs);
                    b[i] = grid.round(bc + as_);
                }
            }
        });
    }
}
