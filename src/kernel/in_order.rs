//! A linear layer and norms that add their terms one after the other, from the first term or from the last. These orders
//! are honest, and as far from the canonical order as an order can be. Only the measurement of noise uses them
//! ([`crate::pass::Way`]).

use super::matrix::MatrixView;
use super::simd::vectorize;
use crate::num::{Grid, LANES, Lanes, Real, fma};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Which term of a sum is added first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first term; a bias is added last.
    First,
    /// The last term, to the bias.
    Last,
}

impl Start {
    /// The sum of the terms, every step rounded once.
    fn sum<T: Real>(self, terms: impl DoubleEndedIterator<Item = T>) -> T {
        let add = |sum, v| sum + v;
        match self {
            Start::First => terms.fold(T::ZERO, add),
            Start::Last => terms.rev().fold(T::ZERO, add),
        }
    }
}

/// y\[m, n\] = ((x\[m, 0\] · w\[n, 0\] + x\[m, 1\] · w\[n, 1\]) + …) + b\[n\], or the other way round, every step rounded once.
///
/// x: [m, k], w: [n, k], b: \[n\] → y: [m, n]. Spec: D10.1
///
/// # Panics
/// The shapes disagree; only a bug of this library can cause that (C3.3a).
pub fn linear_in_order<T: Real>(x: ArrayView2<'_, T>, w: MatrixView<'_>, b: Option<&[f32]>, from: Start) -> Array2<T> {
    let (m, k, n) = (x.nrows(), x.ncols(), w.rows);
    assert_eq!(k, w.cols, "C3.3a: x has as many columns as w");
    let x = x.as_standard_layout();
    let Some(rows) = x.as_slice() else { unreachable!("C3.3a: x is row-major") };
    let blocks: Vec<Array2<T>> = (0..n.div_ceil(LANES))
        .into_par_iter()
        .map(|block| {
            let outputs = block * LANES..n.min((block + 1) * LANES);
            let mut columns = vec![[T::ZERO; LANES]; k]; // [k, 16]: 16 outputs side by side
            let mut row = vec![T::ZERO; k];
            for (lane, output) in outputs.clone().enumerate() {
                w.row_into(output, &mut row);
                columns.iter_mut().zip(&row).for_each(|(c, &w)| c[lane] = w);
            }
            let mut biases = [T::ZERO; LANES];
            let of_block = b.map_or(&[][..], |b| &b[outputs]);
            biases.iter_mut().zip(of_block).for_each(|(bias, &b)| *bias = T::of_f32(b));
            let mut y = Array2::from_elem((m, LANES), T::ZERO);
            for (i, mut y) in y.axis_chunks_iter_mut(Axis(0), AT_ONCE).enumerate() {
                // At the end, the last row stands in for rows that are not there.
                let x = std::array::from_fn(|r| &rows[m.min(i * AT_ONCE + r + 1) * k - k..][..k]);
                let sums = vectorize(
                    #[inline(always)]
                    || chains(x, &columns, biases, from),
                );
                for (y, sums) in y.outer_iter_mut().zip(sums) {
                    y.into_iter().zip(sums).for_each(|(y, s)| *y = s);
                }
            }
            y
        })
        .collect();
    Array2::from_shape_fn((m, n), |(i, o)| {
        let y = blocks[o / LANES][[i, o % LANES]];
        b.filter(|_| from == Start::First).map_or(y, |b| y + T::of_f32(b[o]))
    })
}

/// Rows whose sums grow side by side: one sum alone waits for each of its additions.
const AT_ONCE: usize = 4;

/// The sums of some rows with 16 outputs. x: \[k\] each, columns: [k, 16].
///
/// A loop, and no iterator that folds: the compiler puts a fold into a function of its own, without the CPU's instruction set,
/// where every fused multiply-add is a call.
#[inline(always)]
fn chains<T: Real>(x: [&[T]; AT_ONCE], columns: &[Lanes<T>], biases: Lanes<T>, from: Start) -> [Lanes<T>; AT_ONCE] {
    let (k, begin) = (columns.len(), if from == Start::First { [T::ZERO; LANES] } else { biases });
    let mut sums = [begin; AT_ONCE];
    for step in 0..k {
        let i = if from == Start::First { step } else { k - 1 - step };
        for (sums, x) in sums.iter_mut().zip(x) {
            *sums = fma(&[x[i]; LANES], &columns[i], *sums);
        }
    }
    sums
}

/// As [`super::rms_norm`], with the squares added one after the other. Spec: E3.10, D10.1
pub fn rms_norm_in_order<T: Real>(x: ArrayView2<'_, T>, w: &[f32], eps: f64, grid: Grid, from: Start) -> Array2<T> {
    let mut y = x.to_owned();
    for mut row in y.outer_iter_mut() {
        let squares = from.sum(row.iter().map(|&v| v * v));
        let scale = T::ONE / (squares / T::of(row.len() as f64) + T::of(eps)).sqrt();
        row.iter_mut().zip(w).for_each(|(v, &w)| *v = grid.round(*v * scale) * T::of_f32(w));
    }
    y
}

/// As [`super::layer_norm`], with numbers and squares added one after the other. Spec: E3.11, D10.1
pub fn layer_norm_in_order<T: Real>(x: ArrayView2<'_, T>, w: &[f32], b: &[f32], eps: f64, from: Start) -> Array2<T> {
    let mut y = x.to_owned();
    for mut row in y.outer_iter_mut() {
        let d = T::of(row.len() as f64);
        let mean = from.sum(row.iter().copied()) / d;
        let squares = from.sum(row.iter().map(|&v| (v - mean) * (v - mean)));
        let scale = T::ONE / (squares / d + T::of(eps)).sqrt();
        for (v, (&w, &b)) in row.iter_mut().zip(w.iter().zip(b)) {
            *v = (*v - mean) * scale * T::of_f32(w) + T::of_f32(b);
        }
    }
    y
}
