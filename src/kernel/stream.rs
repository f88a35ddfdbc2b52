//! Linear layers of few rows: the weights are read once, in place, and memory bandwidth sets the speed.
//!
//! Each sum is in the order of [`crate::num::dot`], with its lanes in registers. If the rows of x do not fit the
//! first-level cache, a task computes all its outputs for one range of inputs, then for the next. Between two ranges
//! the lanes of the sums are in memory.

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

use super::matrix::Elements;
use super::scratch::{LINE, Scratch};
use super::simd::{Registers, vectorize};
use super::tasks::{Layer, Task, outputs_at_once, tasks};
use super::team::share;
use super::vector::{Element, Kernel, Vector};
use crate::num::{BLOCK, LANES, pack};
use std::ops::Range;

/// The fewest bytes of weights that one task reads.
const TASK: usize = 256 << 10;
/// Bytes between the weights in use and the weights that are prefetched.
const AHEAD: usize = 16 << 10;
/// The most bytes of x that can be read fast enough, in part from the second-level cache, if a sum takes one register,
/// or two. One or two rows are always fast enough.
const NEAR: [usize; 2] = [128 << 10, 32 << 10];
/// The outputs of a task are a multiple of this number, which is a multiple of every tile's outputs.
const OUTPUTS: usize = 12;

/// y = x · wᵀ + b of each layer, stored. x: [m, k], w: [n, k], y: [m, n]. Spec: E3.3, R3.3
pub fn few(x: &[f32], k: usize, layers: &[Layer<'_>], y: Vec<&mut [f32]>) {
    let m = x.len() / k;
    let rows = m.next_power_of_two().min(m.next_multiple_of(8)); // whole tiles
    let mut packed = Scratch::new(rows * k.next_multiple_of(BLOCK));
    let packed = packed.get_mut();
    vectorize(
        #[inline(always)]
        || pack_rows(x, k, rows, packed),
    );
    let bytes = |(w, _): &Layer<'_>| if let Elements::F32(_) = w.values { 4 } else { 2 };
    let row = k * layers.iter().map(bytes).max().unwrap_or(4);
    let outputs: usize = layers.iter().map(|(w, _)| w.rows).sum();
    // Some tasks for each thread; a task reads its weights as one stream, and the longer, the better.
    let most = (TASK / row).max(outputs / (4 * rayon::current_num_threads()));
    let outputs = outputs_at_once(layers, most, OUTPUTS);
    share(tasks(layers, y, outputs).into_iter(), |task| f32::run(Few { x: packed, rows, task }));
}

/// Packs the rows of x, block after block: [blocks, rows, 32]. Rows beyond those of x are 0.
#[inline(always)]
fn pack_rows(x: &[f32], k: usize, rows: usize, packed: &mut [f32]) {
    for (s, to) in packed.chunks_exact_mut(rows * BLOCK).enumerate() {
        let (some, none) = to.split_at_mut(x.len() / k * BLOCK);
        for (row, to) in x.chunks_exact(k).zip(some.chunks_exact_mut(BLOCK)) {
            pack(&row[s * BLOCK..k.min((s + 1) * BLOCK)], |v| v, to);
        }
        none.fill(0.0);
    }
}

/// One task, for every row; x: [blocks, rows, 32] packed (D2.3).
struct Few<'a> {
    x: &'a [f32],
    rows: usize,
    task: Task<'a, 'a, f32>,
}

impl Kernel<f32> for Few<'_> {
    #[inline(always)]
    fn run<V: Vector<Number = f32>, const R: usize, const O: usize>(self) {
        match self.task.w.values {
            Elements::F32(w) => self.outputs::<V, _>(w),
            Elements::Bf16(w) => self.outputs::<V, _>(w),
            Elements::F16(w) => self.outputs::<V, _>(w),
        }
    }
}

impl Few<'_> {
    /// Chooses H, the number of registers for the 16 lanes of a sum.
    #[inline(always)]
    fn outputs<V: Vector<Number = f32>, S: Element>(mut self, w: &[S]) {
        match V::WIDTH == LANES {
            true => self.shaped::<V, S, 1>(w),
            false => self.shaped::<V, S, 2>(w),
        }
    }

    /// Chooses the tile: as many sums as registers hold, so that each loaded number is used often. A single row is
    /// bound by memory bandwidth, so one sum at a time is enough.
    #[inline(always)]
    fn shaped<V: Vector<Number = f32>, S: Element, const H: usize>(&mut self, w: &[S]) {
        match self.task.y.nrows() {
            1 => self.tiles::<V, S, 1, 1, H>(w),
            2 if H == 1 => self.tiles::<V, S, 2, 4, H>(w),
            2 => self.tiles::<V, S, 2, 2, H>(w),
            5.. if H == 1 => self.tiles::<V, S, 8, 3, H>(w),
            _ if H == 1 => self.tiles::<V, S, 4, 4, H>(w),
            _ => self.tiles::<V, S, 4, 1, H>(w),
        }
    }

    #[inline(always)]
    fn tiles<V: Vector<Number = f32>, S: Element, const R: usize, const O: usize, const H: usize>(&mut self, w: &[S]) {
        let ((m, n), k) = (self.task.y.dim(), self.task.w.cols);
        let parts = if m <= 2 { 1 } else { size_of_val(self.x).div_ceil(NEAR[H - 1]) };
        let depth = k.div_ceil(parts).next_multiple_of(BLOCK);
        let aside = if parts > 1 { n.next_multiple_of(O) * m.next_multiple_of(R) } else { 0 };
        let mut lanes = Scratch::new(aside * LANES);
        let lanes = lanes.get_mut();
        for start in (0..k).step_by(depth) {
            let depth = start..k.min(start + depth);
            let mut tiles = lanes.chunks_exact_mut(R * O * LANES);
            for output in (0..n).step_by(O) {
                // The weights of a tile stay in the first-level cache for the rows that follow.
                for row in (0..m).step_by(R) {
                    let lanes = tiles.next().unwrap_or_default(); // empty if all inputs are summed in one go
                    let sums = self.tile::<V, S, R, O, H>(w, row, output, &depth, lanes);
                    if depth.end == k {
                        self.put(&sums, row, output);
                        continue;
                    }
                    // The loop's length is a constant: only then does the compiler keep the sums in registers.
                    for i in 0..R * O {
                        for half in 0..H {
                            sums.as_flattened()[i][half].store(&mut lanes[i * LANES + half * V::WIDTH..]);
                        }
                    }
                }
            }
        }
    }

    /// The sums of R rows and O outputs, [R, O, lanes in registers], after the inputs `depth`; `lanes` holds the sums
    /// of earlier inputs. The last output replaces outputs past the end.
    #[inline(always)]
    fn tile<V: Vector<Number = f32>, S: Element, const R: usize, const O: usize, const H: usize>(
        &self,
        w: &[S],
        row: usize,
        output: usize,
        depth: &Range<usize>,
        lanes: &[f32],
    ) -> [[[V; H]; O]; R] {
        let (n, k) = (self.task.w.rows, self.task.w.cols);
        let whole = depth.len() / BLOCK * BLOCK;
        let (mut ws, mut rest) = ([&w[..0]; O], [[S::default(); BLOCK]; O]);
        for o in 0..O {
            ws[o] = &w[(output + o).min(n - 1) * k..][depth.clone()];
            // Copied before the sums exist: the call would move the sums out of their registers.
            rest[o][..depth.len() - whole].copy_from_slice(&ws[o][whole..]);
        }
        // The weights to prefetch: the next weights in memory, or the same inputs of the next outputs.
        let straight = depth.len() == k;
        let (next, ahead) = match straight {
            true => (&w[output * k..], AHEAD / size_of::<S>()),
            false => (&w[output.min(n - 1) * k + depth.start..], O * k),
        };
        let mut sums = [[[V::zero(); H]; O]; R];
        if depth.start > 0 {
            for i in 0..R * O {
                for half in 0..H {
                    sums.as_flattened_mut()[i][half] = V::load(&lanes[i * LANES + half * V::WIDTH..]);
                }
            }
        }
        let xs = self.x[depth.start * self.rows..].chunks_exact(self.rows * BLOCK);
        for (at, x) in (0..depth.len()).step_by(BLOCK).zip(xs) {
            // Prefetches one line for each line consumed, into the second-level cache: x needs the first.
            for o in 0..O {
                for line in 0..(BLOCK * size_of::<S>()).div_ceil(LINE) {
                    let line = line * LINE / size_of::<S>();
                    let at = if straight { O * at + o * BLOCK + line } else { o * k + at + line };
                    V::prefetch_far(next, at + ahead);
                }
            }
            let mut blocks = [&w[..0]; O];
            for o in 0..O {
                blocks[o] = ws[o].get(at..at + BLOCK).unwrap_or(&rest[o]);
            }
            step::<V, S, R, O, H>(&x[row * BLOCK..][..R * BLOCK], blocks, &mut sums);
        }
        sums
    }

    /// Adds up the lanes of the sums, adds the bias, and stores the outputs.
    #[inline(always)]
    fn put<V: Vector<Number = f32>, const R: usize, const O: usize, const H: usize>(
        &mut self,
        sums: &[[[V; H]; O]; R],
        row: usize,
        output: usize,
    ) {
        let Task { end: (b, grid), y, .. } = &mut self.task;
        let (m, n) = y.dim();
        // `fold4` takes the last register of a sum as it is; the lanes of the others go to memory.
        let (mut lanes, mut last) = ([[[0.0; LANES]; O]; R], [[V::zero(); O]; R]);
        for r in 0..R {
            for o in 0..O {
                for half in 0..H - 1 {
                    sums[r][o][half].store(&mut lanes[r][o][half * V::WIDTH..]);
                }
                last[r][o] = sums[r][o][H - 1];
            }
        }
        let mut folded = [[0.0; O]; R];
        let fours = last.as_flattened().chunks(4).zip(lanes.as_flattened().chunks(4));
        for ((last, lanes), to) in fours.zip(folded.as_flattened_mut().chunks_mut(4)) {
            let (mut four, mut apart) = ([V::zero(); 4], [[0.0; LANES]; 4]);
            four[..last.len()].copy_from_slice(last);
            apart[..lanes.len()].copy_from_slice(lanes);
            to.copy_from_slice(&V::fold4(&four, &apart)[..to.len()]);
        }
        for r in 0..R.min(m - row) {
            for o in 0..O.min(n - output) {
                let sum = b.map_or(folded[r][o], |b| folded[r][o] + b[output + o]);
                y[[row + r, output + o]] = grid.round(sum);
            }
        }
    }
}

/// 32 inputs of R rows and O outputs. x: [R, 32] packed, sums: [R, O, lanes in registers]. Spec: E2.4
#[inline(always)]
fn step<V: Vector<Number = f32>, S: Element, const R: usize, const O: usize, const H: usize>(
    x: &[f32],
    w: [&[S]; O],
    sums: &mut [[[V; H]; O]; R],
) {
    for half in 0..H {
        let (mut odd, mut even) = ([V::zero(); O], [V::zero(); O]);
        for o in 0..O {
            (odd[o], even[o]) = S::pairs::<V>(&w[o][2 * V::WIDTH * half..][..2 * V::WIDTH]);
        }
        for r in 0..R {
            let x = &x[r * BLOCK + V::WIDTH * half..];
            let (x_odd, x_even) = (V::load(&x[..V::WIDTH]), V::load(&x[LANES..][..V::WIDTH]));
            for o in 0..O {
                sums[r][o][half] = x_even.fma(even[o], x_odd.fma(odd[o], sums[r][o][half]));
            }
        }
    }
}
