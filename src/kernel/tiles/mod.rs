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

#[cfg(target_arch = "x86_64")]
use super::matrix::Elements;
use super::naive;
use super::scratch;
use super::simd::vectorize;
use super::tasks::{Layer, Task, tasks};
use super::team::share;
use crate::num::{BLOCK, Real};
use ndarray::{Array2, ArrayView2};
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

/// y\[m, n\] = Σ_k x\[m, k\] · w\[n, k\] + b\[n\] of each layer, stored, with the sums in the order of E3.16.
///
/// x: [m, k], w: [n, k], b: \[n\] → y: [m, n] of each layer. Spec: E3.16, C3.16b, R3.3
///
/// # Panics
/// The shapes disagree; only a bug of this library can cause that (C3.3a).
pub fn linears_in_tiles<T: Real>(x: ArrayView2<'_, T>, layers: &[Layer<'_>]) -> Vec<Array2<T>> {
    for (w, (b, _)) in layers {
        assert_eq!(x.ncols(), w.cols, "C3.3a: x has as many columns as w");
        assert!(b.is_none_or(|b| b.len() == w.rows), "C3.3a: one bias for each output");
    }
    assert!(TypeId::of::<T>() == TypeId::of::<f32>(), "E3.16: tiles add in f32");
    let rows = x.as_standard_layout();
    let mut y: Vec<Array2<T>> = layers.iter().map(|(w, _)| scratch::array(x.nrows(), w.rows)).collect();
    let flat = "E3.16: x and y are row-major";
    let from = rows.as_slice().unwrap_or_else(|| unreachable!("{flat}"));
    let to = y.iter_mut().map(|y| y.as_slice_mut().unwrap_or_else(|| unreachable!("{flat}")));
    of_f32(bytemuck::cast_slice(from), x.dim(), layers, to.map(bytemuck::cast_slice_mut).collect());
    y
}

/// As [`linears_in_tiles`]. x: [m, k], y: [m, n].
fn of_f32(x: &[f32], (m, k): (usize, usize), layers: &[Layer<'_>], y: Vec<&mut [f32]>) {
    let x = ArrayView2::from_shape((m, k), x).unwrap_or_else(|_| unreachable!("E3.16: whole rows"));
    #[cfg(target_arch = "x86_64")]
    if m > 0 && k > 0 && layers.iter().all(|(w, _)| matches!(w.values, Elements::Bf16(_))) && available() {
        if m <= few::FEW {
            if let Some(rows) = few::packed(x) {
                return few::linears(&rows, layers, y);
            }
        } else if let Some(rows) = many::packed(x) {
            return many::linears(&rows, m, layers, y);
        }
    }
    share(tasks(layers, y, SIDE).into_iter(), |task| in_code(x, task));
}

/// The sums of 16 outputs side by side, by plain code.
fn in_code(x: ArrayView2<'_, f32>, Task { w, end: (b, grid), mut y }: Task<'_, '_, f32>) {
    let blocks = w.cols.div_ceil(BLOCK);
    let mut columns = vec![[0f32; SIDE]; blocks * BLOCK]; // [inputs, outputs]
    let mut row = vec![0f32; w.cols];
    for output in 0..w.rows {
        w.row_into(output, &mut row);
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
            *y = grid.round(b.map_or(sum, |b| sum + b[lane]));
        }
    }
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
