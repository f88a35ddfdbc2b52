//! Linear layers of few rows: the weights are read once, where they lie, at the speed that memory gives them.
//!
//! A tile is four sums: four outputs of one row, two of two or one of four, each in the order of [`crate::num::dot`].

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

use super::matrix::{MatrixView, Values};
use super::scratch::{LINE, Scratch};
use super::simd::Registers;
use super::vector::{Kernel, Stored, Vector};
use crate::num::{BLOCK, LANES, Lanes, Real, pack};
use ndarray::parallel::prelude::*;
use ndarray::{ArrayViewMut2, Axis};

/// Bytes of weights a task reads.
const TASK: usize = 256 << 10;

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
    #[inline(always)]
    fn outputs<V: Vector<Number = f32>, S: Stored>(mut self, w: &[S]) {
        let (m, n) = self.y.dim();
        if m == 1 {
            return (0..n).step_by(4).for_each(|o| self.tile::<V, S, 1, 4>(w, 0, o));
        }
        for o in (0..n).step_by(2) {
            // The weights of a tile stay in the first cache for the rows that follow.
            let mut r = 0;
            while r < m {
                if m - r > 2 {
                    self.tile::<V, S, 4, 1>(w, r, o);
                    if o + 1 < n {
                        self.tile::<V, S, 4, 1>(w, r, o + 1);
                    }
                    r += 4;
                } else {
                    self.tile::<V, S, 2, 2>(w, r, o);
                    r += 2;
                }
            }
        }
    }

    /// R rows, O outputs; past the end the last one again, whose result is the same.
    #[inline(always)]
    fn tile<V: Vector<Number = f32>, S: Stored, const R: usize, const O: usize>(
        &mut self,
        w: &[S],
        row: usize,
        output: usize,
    ) {
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
                V::prefetch(next, O * k + O * at + line * (LINE / size_of::<S>()));
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
        let mut lanes = [[0.0; LANES]; 4];
        for r in 0..R {
            for o in 0..O {
                for half in 0..LANES / V::WIDTH {
                    sums[r][o][half].store(&mut lanes[r * O + o][half * V::WIDTH..]);
                }
            }
        }
        self.put::<V, O>(row, output, &lanes);
    }

    #[inline(always)]
    fn put<V: Vector<Number = f32>, const O: usize>(&mut self, row: usize, output: usize, lanes: &[Lanes<f32>; 4]) {
        let (m, n) = self.y.dim();
        for (i, sum) in V::fold4(lanes).into_iter().enumerate() {
            let (r, o) = (row + i / O, output + i % O);
            if r < m && o < n {
                let b = self.b.map(|b| f32::of_f32(b[self.first + o]));
                self.y[[r, o]] = b.map_or(sum, |b| sum + b);
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
