//! Linear layers of few rows: the weights are read once, where they lie, at the speed that memory gives them.
//!
//! Each sum is in the order of [`crate::num::dot`], its lanes in registers. Where the rows of x are longer than the first
//! cache, a task takes its outputs through one range of inputs after the other, the lanes put aside meanwhile.

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

use super::matrix::{MatrixView, Values};
use super::scratch::{LINE, Scratch};
use super::simd::Registers;
use super::vector::{Kernel, Stored, Vector};
use crate::num::{BLOCK, LANES, Real, pack};
use ndarray::parallel::prelude::*;
use ndarray::{ArrayViewMut2, Axis};
use std::ops::Range;

/// Bytes of weights a task reads.
const TASK: usize = 256 << 10;
/// Bytes between the weights in use and those that are asked for.
const AHEAD: usize = 8 << 10;
/// Bytes of x that stay in the first cache beside the weights in use. One or two rows come fast enough from the second.
const NEAR: usize = 32 << 10;

/// x: [m, k], y: [m, n].
pub fn few(x: &[f32], w: MatrixView<'_>, b: Option<&[f32]>, y: &mut [f32]) {
    let (n, k) = (w.rows, w.cols);
    let (m, padded) = (y.len() / n.max(1), k.next_multiple_of(BLOCK));
    let mut packed = Scratch::new(m * padded);
    let packed = packed.get_mut();
    packed.chunks_exact_mut(padded).zip(x.chunks_exact(k)).for_each(|(to, row)| pack(row, |v| v, to));
    let bytes = match w.values {
        Values::F32(_) => 4,
        _ => 2,
    };
    let threads = rayon::current_num_threads();
    let tasks = (n * k * bytes).div_ceil(TASK).next_multiple_of(threads);
    let outputs = n.div_ceil(tasks.max(1)).next_multiple_of(4);
    let mut y = ArrayViewMut2::from_shape((m, n), y).unwrap_or_else(|_| unreachable!("E3.3: y is [m, n]"));
    y.axis_chunks_iter_mut(Axis(1), outputs).into_par_iter().enumerate().for_each(|(i, y)| {
        f32::run(Few { x: packed, padded, w, b, first: i * outputs, y });
    });
}

/// Some outputs, first.., of every row; x: [m, padded] packed (D2.3), y: [m, outputs].
struct Few<'a> {
    x: &'a [f32],
    padded: usize,
    w: MatrixView<'a>,
    b: Option<&'a [f32]>,
    first: usize,
    y: ArrayViewMut2<'a, f32>,
}

impl Kernel<f32> for Few<'_> {
    #[inline(always)]
    fn run<V: Vector<Number = f32>, const R: usize, const O: usize>(self) {
        match self.w.values {
            Values::F32(w) => self.outputs::<V, _>(w),
            Values::Bf16(w) => self.outputs::<V, _>(w),
            Values::F16(w) => self.outputs::<V, _>(w),
        }
    }
}

impl Few<'_> {
    /// Memory is fastest where it is read straight on, so a tile holds as few outputs as keep the arithmetic fed.
    #[inline(always)]
    fn outputs<V: Vector<Number = f32>, S: Stored>(mut self, w: &[S]) {
        match V::WIDTH == LANES {
            true => self.shaped::<V, S, 1>(w),
            false => self.shaped::<V, S, 2>(w),
        }
    }

    /// H: registers of a sum.
    #[inline(always)]
    fn shaped<V: Vector<Number = f32>, S: Stored, const H: usize>(&mut self, w: &[S]) {
        match self.y.nrows() {
            1 if size_of::<S>() < size_of::<f32>() => self.tiles::<V, S, 1, 2, H>(w),
            1 => self.tiles::<V, S, 1, 1, H>(w),
            2 => self.tiles::<V, S, 2, 1, H>(w),
            5.. if H == 1 => self.tiles::<V, S, 8, 2, H>(w),
            _ if H == 1 => self.tiles::<V, S, 4, 2, H>(w),
            _ => self.tiles::<V, S, 4, 1, H>(w),
        }
    }

    #[inline(always)]
    fn tiles<V: Vector<Number = f32>, S: Stored, const R: usize, const O: usize, const H: usize>(&mut self, w: &[S]) {
        let ((m, n), k) = (self.y.dim(), self.w.cols);
        let parts = if m <= 2 { 1 } else { (m * self.padded * size_of::<f32>()).div_ceil(NEAR) };
        let depth = self.padded.div_ceil(parts).next_multiple_of(BLOCK);
        let aside = if parts > 1 { n.next_multiple_of(O) * m.next_multiple_of(R) } else { 0 };
        let mut lanes = Scratch::new(aside * LANES);
        let lanes = lanes.get_mut();
        for start in (0..k).step_by(depth) {
            let depth = start..k.min(start + depth);
            let mut tiles = lanes.chunks_exact_mut(R * O * LANES);
            for output in (0..n).step_by(O) {
                // The weights of a tile stay in the first cache for the rows that follow.
                for row in (0..m).step_by(R) {
                    let lanes = tiles.next().unwrap_or_default();
                    let mut sums = [[[V::zero(); H]; O]; R];
                    if start > 0 {
                        each(&mut sums, lanes, |sum, lanes| *sum = V::load(lanes));
                    }
                    self.tile(w, row, output, &depth, &mut sums);
                    if depth.end == k {
                        self.put(&sums, row, output);
                    } else {
                        each(&mut sums, lanes, |sum, lanes| sum.store(lanes));
                    }
                }
            }
        }
    }

    /// Adds the products of `depth` to the lanes of R rows and O outputs, [R, O, lanes in registers]. Past the end the last
    /// one again.
    #[inline(always)]
    fn tile<V: Vector<Number = f32>, S: Stored, const R: usize, const O: usize, const H: usize>(
        &self,
        w: &[S],
        row: usize,
        output: usize,
        depth: &Range<usize>,
        sums: &mut [[[V; H]; O]; R],
    ) {
        let (m, n) = self.y.dim();
        let k = self.w.cols;
        let (mut xs, mut ws) = ([&self.x[..0]; R], [&w[..0]; O]);
        for r in 0..R {
            let row = &self.x[(row + r).min(m - 1) * self.padded..][..self.padded];
            xs[r] = &row[depth.start..];
        }
        for o in 0..O {
            ws[o] = &w[(self.first + (output + o).min(n - 1)) * k..][depth.clone()];
        }
        // The weights that come after these: straight on, or those of the next outputs.
        let straight = depth.len() == k;
        let (next, ahead) = match straight {
            true => (&w[(self.first + output) * k..], AHEAD / size_of::<S>()),
            false => (&w[(self.first + output.min(n - 1)) * k + depth.start..], O * k),
        };
        let whole = depth.len() / BLOCK * BLOCK;
        for at in (0..whole).step_by(BLOCK) {
            // One line of them for each line consumed.
            for o in 0..O {
                for line in 0..(BLOCK * size_of::<S>()).div_ceil(LINE) {
                    let line = line * LINE / size_of::<S>();
                    let at = if straight { O * at + o * BLOCK + line } else { o * k + at + line };
                    V::prefetch(next, at + ahead);
                }
            }
            let mut blocks = [&w[..0]; O];
            for o in 0..O {
                blocks[o] = &ws[o][at..at + BLOCK];
            }
            step::<V, S, R, O, H>(&xs, blocks, at, sums);
        }
        if whole < depth.len() {
            let mut rest = [[S::default(); BLOCK]; O];
            for o in 0..O {
                rest[o][..depth.len() - whole].copy_from_slice(&ws[o][whole..]);
            }
            let mut blocks = [&w[..0]; O];
            for o in 0..O {
                blocks[o] = &rest[o];
            }
            step::<V, S, R, O, H>(&xs, blocks, whole, sums);
        }
    }

    /// Adds the lanes up, and the bias to them.
    #[inline(always)]
    fn put<V: Vector<Number = f32>, const R: usize, const O: usize, const H: usize>(
        &mut self,
        sums: &[[[V; H]; O]; R],
        row: usize,
        output: usize,
    ) {
        let (m, n) = self.y.dim();
        for (four, sums) in sums.as_flattened().chunks(4).enumerate() {
            // The lanes of a sum: those of the last register stay there.
            let (mut lanes, mut last) = ([[0.0; LANES]; 4], [V::zero(); 4]);
            for i in 0..sums.len() {
                for half in 0..H - 1 {
                    sums[i][half].store(&mut lanes[i][half * V::WIDTH..]);
                }
                last[i] = sums[i][H - 1];
            }
            for (i, sum) in V::fold4(&last, &lanes).into_iter().enumerate().take(sums.len()) {
                let (r, o) = (row + (4 * four + i) / O, output + (4 * four + i) % O);
                if r < m && o < n {
                    let b = self.b.map(|b| f32::of_f32(b[self.first + o]));
                    self.y[[r, o]] = b.map_or(sum, |b| sum + b);
                }
            }
        }
    }
}

/// Every register of a tile with the lanes it stands for.
#[inline(always)]
fn each<V: Vector<Number = f32>, const R: usize, const O: usize, const H: usize>(
    sums: &mut [[[V; H]; O]; R],
    lanes: &mut [f32],
    mut f: impl FnMut(&mut V, &mut [f32]),
) {
    for (sums, lanes) in sums.as_flattened_mut().iter_mut().zip(lanes.as_chunks_mut::<LANES>().0) {
        for half in 0..H {
            f(&mut sums[half], &mut lanes[half * V::WIDTH..]);
        }
    }
}

/// The 32 inputs from `at` on of R rows and O outputs. sums: [R, O, lanes in registers]. Spec: E2.4
#[inline(always)]
fn step<V: Vector<Number = f32>, S: Stored, const R: usize, const O: usize, const H: usize>(
    x: &[&[f32]; R],
    w: [&[S]; O],
    at: usize,
    sums: &mut [[[V; H]; O]; R],
) {
    for half in 0..H {
        let (mut odd, mut even) = ([V::zero(); O], [V::zero(); O]);
        for o in 0..O {
            (odd[o], even[o]) = S::pairs::<V>(&w[o][2 * V::WIDTH * half..][..2 * V::WIDTH]);
        }
        for r in 0..R {
            let x = &x[r][at + V::WIDTH * half..];
            let (x_odd, x_even) = (V::load(&x[..V::WIDTH]), V::load(&x[LANES..][..V::WIDTH]));
            for o in 0..O {
                sums[r][o][half] = x_even.fma(even[o], x_odd.fma(odd[o], sums[r][o][half]));
            }
        }
    }
}
