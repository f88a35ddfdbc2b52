//! Linear layers: y = x · wᵀ + b, every output summed in the canonical order whatever the number of rows.
//!
//! The work is split over blocks of outputs; a block's weights are widened and packed once, then every row of x streams
//! past it. The order of each sum is that of [`crate::num::dot`], so that one row of a prefill equals the decode of it.
//! Naive twin: [`super::naive::linear`].

use super::matrix::MatrixView;
use super::simd::vectorize;
use crate::num::{BLOCK, LANES, Real, dot, fma, fold, pack};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// Outputs whose weights one task packs.
const OUTPUTS: usize = 32;
/// Rows of x a tile holds.
const TILE_ROWS: usize = 3;
/// Outputs a tile holds.
const TILE_OUTPUTS: usize = 2;

/// y\[m, n\] = Σ_k x\[m, k\] · w\[n, k\] + b\[n\].
///
/// x: [m, k], w: [n, k], b: \[n\] → y: [m, n]. The bias is added after the canonical sum. Spec: E3.3
///
/// # Panics
/// Where the shapes disagree, which only a bug of ours can cause (C3.3a).
pub fn linear<T: Real>(x: ArrayView2<'_, T>, w: MatrixView<'_>, b: Option<&[f32]>) -> Array2<T> {
    let (m, k, n) = (x.nrows(), x.ncols(), w.rows);
    assert_eq!(k, w.cols, "C3.3a: x has as many columns as w");
    assert!(b.is_none_or(|b| b.len() == n), "C3.3a: one bias an output");
    let padded = k.div_ceil(BLOCK) * BLOCK;

    let x = x.as_standard_layout();
    let rows = x.as_slice().unwrap_or_default();
    let mut packed_x = vec![T::ZERO; m * padded];
    if k > 0 {
        let pairs = packed_x.par_chunks_mut(padded).zip(rows.par_chunks(k));
        pairs.for_each(|(to, row)| {
            vectorize(
                #[inline(always)]
                || pack(row, |v| v, to),
            )
        });
    }

    // [n, m]: each task owns the outputs it computes.
    let mut transposed = vec![T::ZERO; n * m];
    if m > 0 {
        transposed.par_chunks_mut(OUTPUTS * m).enumerate().for_each(|(block, y)| {
            vectorize(
                #[inline(always)]
                || outputs(&packed_x, padded, w, b, block * OUTPUTS, m, y),
            );
        });
    }
    if m == 1 {
        return Array2::from_shape_vec((1, n), transposed).unwrap_or_else(|_| unreachable!("E3.3: n outputs"));
    }
    let mut y = Array2::from_elem((m, n), T::ZERO);
    if n > 0 {
        y.as_slice_mut().unwrap_or_default().par_chunks_mut(n * 8).enumerate().for_each(|(block, rows)| {
            for (r, row) in rows.chunks_exact_mut(n).enumerate() {
                for (o, v) in row.iter_mut().enumerate() {
                    *v = transposed[o * m + block * 8 + r];
                }
            }
        });
    }
    y
}

/// The outputs `first..` of every row; y: [outputs, m].
#[inline(always)]
fn outputs<T: Real>(x: &[T], padded: usize, w: MatrixView<'_>, b: Option<&[f32]>, first: usize, m: usize, y: &mut [T]) {
    let count = y.len() / m;
    let mut packed_w = vec![T::ZERO; count * padded];
    for (o, to) in packed_w.chunks_exact_mut(padded.max(1)).enumerate() {
        w.pack_row(first + o, to);
    }
    let row = |i: usize| &x[i * padded..(i + 1) * padded];
    let out = |o: usize| &packed_w[o * padded..(o + 1) * padded];
    let mut r = 0;
    while r < m {
        let full = r + TILE_ROWS <= m;
        let mut o = 0;
        while o < count {
            if full && o + TILE_OUTPUTS <= count {
                let t = tile([row(r), row(r + 1), row(r + 2)], [out(o), out(o + 1)], padded);
                for (j, column) in t.into_iter().enumerate() {
                    y[(o + j) * m + r..][..TILE_ROWS].copy_from_slice(&column);
                }
                o += TILE_OUTPUTS;
            } else {
                for i in r..m.min(r + TILE_ROWS) {
                    y[o * m + i] = dot(row(i), out(o));
                }
                o += 1;
            }
        }
        r += TILE_ROWS;
    }
    if let Some(b) = b {
        for (o, y) in y.chunks_exact_mut(m).enumerate() {
            let b = T::of_f32(b[first + o]);
            y.iter_mut().for_each(|y| *y += b);
        }
    }
}

/// R · O outputs at once, each in the order of [`crate::num::dot`]: result\[output\]\[row\].
#[inline(always)]
fn tile<T: Real, const R: usize, const O: usize>(x: [&[T]; R], w: [&[T]; O], padded: usize) -> [[T; R]; O] {
    let mut sums = [[[T::ZERO; LANES]; R]; O];
    let x = x.map(|x| x[..padded].as_chunks::<LANES>().0);
    let w = w.map(|w| w[..padded].as_chunks::<LANES>().0);
    for s in 0..padded / LANES {
        for o in 0..O {
            for r in 0..R {
                sums[o][r] = fma(&x[r][s], &w[o][s], sums[o][r]);
            }
        }
    }
    sums.map(|sums| sums.map(fold))
}
