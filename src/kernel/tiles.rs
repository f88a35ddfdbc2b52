//! Linear layers in the order of sums of a matrix unit: 16 pairs of products at a time.
//!
//! Where the CPU has the unit (`amx.rs`), it computes whole tiles: 16 outputs times 16 rows. It reads the weights
//! where the checkpoint has them, and writes each tile with outputs as rows, so a tile is transposed before it is stored.
//! Anywhere else, plain code computes the same bits, slowly. Naive twin: [`super::naive::linear_in_tiles`]. Spec: E3.16

#![allow(clippy::needless_range_loop)] // loops over lanes read as the equations do, by index

use super::matrix::{Elements, End, MatrixView};
use super::naive;
use super::scratch::{self, Scratch};
use super::simd::vectorize;
use super::tile::{Inputs, PAIRS, SIDE, Tile, Weights};
use crate::num::{BLOCK, Grid, Real};
use half::bf16;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::ParallelSliceMut;
use std::any::TypeId;

/// Rows of x in a task.
const ROWS: usize = 256;
/// The most outputs of a task: their weights stay in the second-level cache.
const OUTPUTS: usize = 64;

/// Whether this machine has the unit and lets this process use it.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        super::amx::available()
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
        && on_unit(x, numbers, (b, grid), y.view_mut())
    {
        return;
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
                || sums_of(&inputs, &columns),
            );
            for (lane, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                *y = grid.round(b.map_or(sum, |b| sum + b[group * SIDE + lane]));
            }
        }
    });
}

/// The sums of one row and 16 outputs. x: \[k\], w: [k, 16]; k is a multiple of 32. Spec: E3.16
#[inline(always)]
fn sums_of(x: &[f32], w: &[[f32; SIDE]]) -> [f32; SIDE] {
    let mut sums = [0f32; SIDE];
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

/// The sums by the unit; false, and nothing done, if x holds numbers that are no bf16.
#[cfg(target_arch = "x86_64")]
fn on_unit(x: ArrayView2<'_, f32>, w: &[bf16], end: End<'_>, mut y: ArrayViewMut2<'_, f32>) -> bool {
    let ((m, k), n) = (x.dim(), y.ncols());
    let per_group = k.div_ceil(BLOCK);
    let mut packed = Scratch::<f32>::new(m.div_ceil(SIDE) * per_group * PAIRS * SIDE);
    let tiles: &mut [Tile] = bytemuck::cast_slice_mut(packed.get_mut());
    let groups = tiles.par_chunks_mut(per_group).zip(x.axis_chunks_iter(Axis(0), SIDE));
    if !groups.map(|(tiles, rows)| pack(rows, tiles)).reduce(|| true, |a, b| a && b) {
        return false;
    }
    let tiles = &*tiles;
    let threads = rayon::current_num_threads();
    // Few rows: a task reads its weights once and as one stream. Many: the weights of a task stay in the cache.
    let most = if m <= 2 * SIDE { n.max(1) } else { OUTPUTS };
    let outputs = n.div_ceil(threads).next_multiple_of(2 * SIDE).min(most);
    y.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter().enumerate().for_each(|(i, mut y)| {
        let x = &tiles[i * ROWS / SIDE * per_group..];
        y.axis_chunks_iter_mut(Axis(1), outputs).into_par_iter().enumerate().for_each(|(o, y)| {
            let first = o * outputs;
            let end = (end.0.map(|b| &b[first..]), end.1);
            vectorize(
                #[inline(always)]
                || block(x, &w[first * k..], k, end, y),
            );
        });
    });
    true
}

/// Packs up to 16 rows of x into one tile for each 32 inputs. Returns whether every number is a bf16.
#[cfg(target_arch = "x86_64")]
fn pack(rows: ArrayView2<'_, f32>, tiles: &mut [Tile]) -> bool {
    let mut lower = 0;
    for (s, tile) in tiles.iter_mut().enumerate() {
        let mut pairs = [[0f32; PAIRS]; SIDE];
        for (row, pairs) in rows.outer_iter().zip(&mut pairs) {
            let Some(row) = row.to_slice() else { unreachable!("E3.16: x is row-major") };
            let mut block = [0f32; BLOCK];
            let row = &row[s * BLOCK..row.len().min((s + 1) * BLOCK)];
            block[..row.len()].copy_from_slice(row);
            for (pair, v) in pairs.iter_mut().zip(block.as_chunks::<2>().0) {
                let [first, second] = v.map(f32::to_bits);
                lower |= first | second;
                *pair = f32::from_bits(first >> 16 | second & 0xffff_0000);
            }
        }
        super::amx::transpose(&mut pairs);
        *tile = bytemuck::cast(pairs);
    }
    lower & 0xffff == 0
}

/// One task. x: the tiles of its rows, w: the weights of its outputs, y: [rows, outputs].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn block(x: &[Tile], w: &[bf16], k: usize, (b, grid): End<'_>, mut y: ArrayViewMut2<'_, f32>) {
    let Some(unit) = super::amx::Unit::take() else { unreachable!("E3.16: the unit was there") };
    let ((m, n), per_group) = (y.dim(), k.div_ceil(BLOCK));
    let x_of = |group: usize| &x[group * per_group..][..per_group];
    let mut sums = [[[[0f32; SIDE]; SIDE]; 2]; 2];
    let whole = "E3.16: y is row-major";
    let mut y: Vec<&mut [f32]> =
        y.outer_iter_mut().map(|y| y.into_slice().unwrap_or_else(|| unreachable!("{whole}"))).collect();
    for first in (0..n).step_by(2 * SIDE) {
        let groups = [first, first + SIDE].map(|first| Padded::new(w, k, first..n.min(first + SIDE)));
        let weights = [groups[0].weights(), groups[usize::from(first + SIDE < n)].weights()];
        let next = if m <= 2 * SIDE { &w[n.min(first + 2 * SIDE) * k..] } else { &w[..0] };
        for row in (0..m).step_by(2 * SIDE) {
            let rows = [row / SIDE, row / SIDE + usize::from(row + SIDE < m)];
            unit.sums(weights, rows.map(x_of), next, &mut sums);
            for (i, sums) in sums.iter_mut().enumerate() {
                let outputs = (first + i * SIDE).min(n)..n.min(first + (i + 1) * SIDE);
                let mut bias = [0f32; SIDE];
                if let Some(b) = b {
                    bias[..outputs.len()].copy_from_slice(&b[outputs.clone()]);
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    super::amx::transpose(sums); // from [outputs, rows] to [rows, outputs]
                    for (at, sums) in (row + r * SIDE..m).zip(&mut *sums) {
                        if b.is_some() {
                            for lane in 0..SIDE {
                                sums[lane] += bias[lane];
                            }
                        }
                        grid.round_all(sums);
                        match y[at].get_mut(outputs.start..outputs.start + SIDE) {
                            Some(y) => y.copy_from_slice(sums),
                            None => y[at][outputs.clone()].copy_from_slice(&sums[..outputs.len()]),
                        }
                    }
                }
            }
        }
    }
}

/// The weights of up to 16 outputs, in place where whole tiles of them are in memory.
#[cfg(target_arch = "x86_64")]
struct Padded<'a> {
    numbers: &'a [bf16],
    k: usize,
    /// A copy with missing outputs as zeros, if there are any.
    copy: Vec<bf16>,
    last: Option<Box<Inputs>>,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Padded<'a> {
    fn new(w: &'a [bf16], k: usize, outputs: std::ops::Range<usize>) -> Self {
        let numbers = if outputs.is_empty() { &w[..0] } else { &w[outputs.start * k..outputs.end * k] };
        let mut copy = Vec::new();
        if (1..SIDE).contains(&outputs.len()) {
            copy = numbers.to_vec();
            copy.resize(SIDE * k, bf16::ZERO);
        }
        let rest = k % BLOCK;
        let last = (rest > 0).then(|| {
            let mut last = Box::new([bf16::ZERO; SIDE * BLOCK]);
            for (to, row) in last.chunks_exact_mut(BLOCK).zip(numbers.chunks_exact(k)) {
                to[..rest].copy_from_slice(&row[k - rest..]);
            }
            last
        });
        Padded { numbers, k, copy, last }
    }

    fn weights(&self) -> Weights<'_> {
        let numbers = if self.copy.is_empty() { self.numbers } else { &self.copy };
        Weights { numbers, stride: self.k, blocks: self.k / BLOCK, last: self.last.as_deref() }
    }
}
