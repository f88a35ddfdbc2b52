//! Linear layers and attention in the order of sums of a matrix unit: 16 pairs of products at a time.
//!
//! ```text
//! mod       chooses, and computes the same bits by plain code where there is no unit
//! attention the two products of attention, by plain code where there is no unit
//! products  the same on the unit
//! few       few rows on the unit: it reads the weights where the checkpoint has them
//! many      many rows on the unit: weights are packed, and stay in the cache while rows stream past
//! rows      rows of numbers as the unit reads them
//! end       what happens to sums at their end
//! amx       the instructions of the unit, in assembly
//! tile      what the unit reads at once
//! ```
//! Naive twin: [`super::naive::linear_in_tiles`]. Spec: E3.16, E3.17

#![allow(clippy::needless_range_loop)] // loops over lanes read as the equations do, by index

#[cfg(target_arch = "x86_64")]
mod amx;
pub(in crate::kernel) mod attention;
#[cfg(target_arch = "x86_64")]
mod end;
#[cfg(target_arch = "x86_64")]
mod few;
#[cfg(target_arch = "x86_64")]
mod many;
#[cfg(target_arch = "x86_64")]
mod products;
#[cfg(target_arch = "x86_64")]
mod rows;
mod tile;

use super::matrix::{Elements, End, MatrixView};
use super::naive;
use super::scratch;
use super::simd::vectorize;
use crate::num::{BLOCK, Grid, Real};
#[cfg(target_arch = "x86_64")]
use half::slice::HalfFloatSliceExt;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use std::any::TypeId;
use tile::{PAIRS, SIDE};

/// Whether this machine has the unit and lets this process use it.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        amx::available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// y\[m, n\] = Σ_k x\[m, k\] · w\[n, k\] + b\[n\], stored, with the sum in the order of E3.16.
///
/// x: [m, k], w: [n, k], b: \[n\] → y: [m, n]. Spec: E3.16, C3.16b, R3.3
///
/// # Panics
/// The shapes disagree; only a bug of this library can cause that (C3.3a).
pub fn linear_in_tiles<T: Real>(x: ArrayView2<'_, T>, w: MatrixView<'_>, b: Option<&[f32]>, grid: Grid) -> Array2<T> {
    assert_eq!(x.ncols(), w.cols, "C3.3a: x has as many columns as w");
    assert!(b.is_none_or(|b| b.len() == w.rows), "C3.3a: one bias for each output");
    assert!(TypeId::of::<T>() == TypeId::of::<f32>(), "E3.16: tiles add in f32");
    let (rows, mut y) = (x.as_standard_layout(), scratch::array(x.nrows(), w.rows));
    let (Some(from), Some(to)) = (rows.as_slice(), y.as_slice_mut()) else { unreachable!("E3.16: row-major") };
    of_f32(bytemuck::cast_slice(from), w, b, grid, bytemuck::cast_slice_mut(to));
    y
}

/// As [`linear_in_tiles`]. x: [m, k], y: [m, n].
fn of_f32(x: &[f32], w: MatrixView<'_>, b: Option<&[f32]>, grid: Grid, y: &mut [f32]) {
    let whole = "E3.16: whole rows";
    let m = y.len() / w.rows.max(1);
    let x = ArrayView2::from_shape((m, w.cols), x).unwrap_or_else(|_| unreachable!("{whole}"));
    let mut y = ArrayViewMut2::from_shape((m, w.rows), y).unwrap_or_else(|_| unreachable!("{whole}"));
    #[cfg(target_arch = "x86_64")]
    if let Elements::Bf16(numbers) = w.values
        && w.cols > 0
        && available()
    {
        let done = match x.nrows() {
            ..=few::FEW => few::linear(x, numbers.reinterpret_cast(), (b, grid), y.view_mut()),
            _ => many::linear(x, numbers.reinterpret_cast(), (b, grid), y.view_mut()),
        };
        if done {
            return;
        }
    }
    in_code(x, w, (b, grid), y);
}

/// The sums by plain code: 16 outputs side by side.
fn in_code(x: ArrayView2<'_, f32>, w: MatrixView<'_>, (b, grid): End<'_>, mut y: ArrayViewMut2<'_, f32>) {
    let blocks = w.cols.div_ceil(BLOCK);
    y.axis_chunks_iter_mut(Axis(1), SIDE).into_par_iter().enumerate().for_each(|(group, mut y)| {
        let mut columns = vec![[0f32; SIDE]; blocks * BLOCK]; // [inputs, outputs]
        let mut row = vec![0f32; w.cols];
        for output in 0..y.ncols() {
            w.row_into(group * SIDE + output, &mut row);
            columns.iter_mut().zip(&row).for_each(|(c, &w)| c[output] = w);
        }
        let mut inputs = vec![0f32; blocks * BLOCK];
        for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
            inputs.iter_mut().zip(x).for_each(|(to, &x)| *to = x);
            let sums = vectorize(
                #[inline(always)]
                || sums_of([0.0; SIDE], &inputs, &columns),
            );
            for (lane, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                *y = grid.round(b.map_or(sum, |b| sum + b[group * SIDE + lane]));
            }
        }
    });
}

/// Continues the sums of one row and 16 outputs. x: \[k\], w: [k, 16]; k is a multiple of 32. Spec: E3.16
#[inline(always)]
fn sums_of(mut sums: [f32; SIDE], x: &[f32], w: &[[f32; SIDE]]) -> [f32; SIDE] {
    for (x, w) in x.chunks_exact(BLOCK).zip(w.chunks_exact(BLOCK)) {
        let (mut parts, mut at_edge) = ([[0f32; SIDE]; 2], false);
        for j in 0..PAIRS {
            for (i, part) in parts.iter_mut().enumerate() {
                let (x, w) = (naive::flushed(x[2 * j + i]), &w[2 * j + i]);
                for lane in 0..SIDE {
                    let sum = x.mul_add(naive::flushed(w[lane]), part[lane]);
                    part[lane] = naive::flushed(sum);
                    at_edge |= sum.abs() == f32::MIN_POSITIVE;
                }
            }
        }
        if at_edge {
            // Whether such a number is flushed depends on bits that it no longer has.
            for lane in 0..SIDE {
                let column: [f32; BLOCK] = std::array::from_fn(|k| w[k][lane]);
                for (i, part) in parts.iter_mut().enumerate() {
                    part[lane] = naive::chain_in_tile(x, &column, i);
                }
            }
        }
        for lane in 0..SIDE {
            sums[lane] = naive::flushed(sums[lane] + naive::flushed(parts[0][lane] + parts[1][lane]));
        }
    }
    sums
}
