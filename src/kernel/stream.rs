//! Linear layers of few rows: the weights are read once, where they lie, at the speed that memory gives them.
//!
//! Each sum is in the order of [`crate::num::dot`], its lanes in registers.

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

use super::matrix::{MatrixView, Values};
use super::scratch::{LINE, Scratch};
use super::simd::Registers;
use super::vector::{Kernel, Stored, Vector};
use crate::num::{BLOCK, LANES, Real, pack};
use ndarray::parallel::prelude::*;
use ndarray::{ArrayViewMut2, Axis};

/// Bytes of weights a task reads.
const TASK: usize = 256 << 10;
/// Bytes between the weights in use and those that are asked for.
const AHEAD: usize = 8 << 10;

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
        match self.y.nrows() {
            1 if size_of::<S>() < size_of::<f32>() => self.tiles::<V, S, 1, 2>(w),
            1 => self.tiles::<V, S, 1, 1>(w),
            2 => self.tiles::<V, S, 2, 1>(w),
            5.. if V::WIDTH == LANES => self.tiles::<V, S, 8, 2>(w),
            _ if V::WIDTH == LANES => self.tiles::<V, S, 4, 2>(w),
            _ => self.tiles::<V, S, 4, 1>(w),
        }
    }

    #[inline(always)]
    fn tiles<V: Vector<Number = f32>, S: Stored, const R: usize, const O: usize>(&mut self, w: &[S]) {
        let (m, n) = self.y.dim();
        for output in (0..n).step_by(O) {
            // The weights of a tile stay in the first cache for the rows that follow.
            for row in (0..m).step_by(R) {
                let sums = self.tile::<V, S, R, O>(w, row, output);
                self.put(&sums, row, output);
            }
        }
    }

    /// The lanes of R rows and O outputs: [R, O, lanes in registers]. Past the end the last one again.
    #[inline(always)]
    fn tile<V: Vector<Number = f32>, S: Stored, const R: usize, const O: usize>(
        &self,
        w: &[S],
        row: usize,
        output: usize,
    ) -> [[[V; 2]; O]; R] {
        let (m, n) = self.y.dim();
        let k = self.w.cols;
        let (mut xs, mut ws) = ([&self.x[..0]; R], [&w[..0]; O]);
        for r in 0..R {
            xs[r] = &self.x[(row + r).min(m - 1) * self.padded..][..self.padded];
        }
        for o in 0..O {
            ws[o] = &w[(self.first + (output + o).min(n - 1)) * k..][..k];
        }
        let next = &w[(self.first + output.min(n - 1)) * k..];
        let mut sums = [[[V::zero(); 2]; O]; R];
        let whole = k / BLOCK * BLOCK;
        for at in (0..whole).step_by(BLOCK) {
            // One line of the weights that come after these for each line consumed.
            for line in 0..(O * BLOCK * size_of::<S>()).div_ceil(LINE) {
                V::prefetch(next, O * at + (AHEAD + line * LINE) / size_of::<S>());
            }
            let mut blocks = [&w[..0]; O];
            for o in 0..O {
                blocks[o] = &ws[o][at..at + BLOCK];
            }
            step::<V, S, R, O>(&xs, blocks, at, &mut sums);
        }
        if whole < k {
            let mut rest = [[S::default(); BLOCK]; O];
            for o in 0..O {
                rest[o][..k - whole].copy_from_slice(&ws[o][whole..]);
            }
            let mut blocks = [&w[..0]; O];
            for o in 0..O {
                blocks[o] = &rest[o];
            }
            step::<V, S, R, O>(&xs, blocks, whole, &mut sums);
        }
        sums
    }

    /// Adds the lanes up, and the bias to them.
    #[inline(always)]
    fn put<V: Vector<Number = f32>, const R: usize, const O: usize>(
        &mut self,
        sums: &[[[V; 2]; O]; R],
        row: usize,
        output: usize,
    ) {
        let (m, n) = self.y.dim();
        for (four, sums) in sums.as_flattened().chunks(4).enumerate() {
            // The lanes of a sum: those of the last register stay there.
            let (mut lanes, mut last) = ([[0.0; LANES]; 4], [V::zero(); 4]);
            for i in 0..sums.len() {
                for half in 0..LANES / V::WIDTH - 1 {
                    sums[i][half].store(&mut lanes[i][half * V::WIDTH..]);
                }
                last[i] = sums[i][LANES / V::WIDTH - 1];
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

/// The 32 inputs from `at` on of R rows and O outputs. sums: [R, O, lanes in registers]. Spec: E2.4
#[inline(always)]
fn step<V: Vector<Number = f32>, S: Stored, const R: usize, const O: usize>(
    x: &[&[f32]; R],
    w: [&[S]; O],
    at: usize,
    sums: &mut [[[V; 2]; O]; R],
) {
    for half in 0..LANES / V::WIDTH {
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
