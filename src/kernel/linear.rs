//! Linear layers: y = x · wᵀ + b. Every output is summed in the canonical order, for any number of rows.
//!
//! The work is split over blocks of outputs. Few rows: [`super::stream`] reads the weights in place. Many: a block's
//! weights are widened and packed once ([`super::panel`]), then every row of x streams past them, a *tile* of R rows
//! and O outputs at a time, whose sums stay in registers. The order of each sum is that of [`crate::num::dot`] in both,
//! so that one row of a prefill equals the decode of it. Naive twin: [`super::naive::linear`].

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

use super::matrix::{Elements, End, MatrixView};
use super::pairs;
use super::panel::{Panels, numbers, pack, run};
use super::scratch::{self, LINE, Scratch};
use super::simd::{Isa, Registers};
use super::stream;
use super::tasks::{Layer, Task, outputs_at_once, tasks};
use super::team::share;
use super::vector::{Apart, Kernel, Vector};
use crate::num::{BLOCK, Grid, LANES, Lanes, Real};
use ndarray::{Array2, ArrayView2, Axis};
use std::any::TypeId;
use std::ops::Range;

/// A result of at most this many rows gets new memory; a larger result reuses memory.
const SMALL: usize = 8;
/// Rows of x that are packed at once: this bounds the memory of a pass.
const GROUP: usize = 1024;
/// The most inputs that are summed in one go: R rows of this many inputs stay in the first-level cache.
const WHOLE: usize = 1152;
/// With more inputs, sums pause after this many inputs and their lanes go to memory: then the weights of a tile stay in
/// the cache too.
const DEPTH: usize = 768;
/// Bytes of packed weights that stay in the second-level cache.
const CACHED: usize = 512 << 10;

/// y\[m, n\] = Σ_k x\[m, k\] · w\[n, k\] + b\[n\].
///
/// x: [m, k], w: [n, k], b: \[n\] → y: [m, n]. The bias is added after the canonical sum. Spec: E3.3
///
/// # Panics
/// The shapes disagree; only a bug of this library can cause that (C3.3a).
pub fn linear<T: Real>(x: ArrayView2<'_, T>, w: MatrixView<'_>, b: Option<&[f32]>) -> Array2<T> {
    linear_stored(x, w, b, Grid::Native)
}

/// As [`linear`]; every output is stored in the grid before it leaves its register. Spec: E3.3, R3.3
///
/// # Panics
/// As [`linear`].
pub fn linear_stored<T: Real>(x: ArrayView2<'_, T>, w: MatrixView<'_>, b: Option<&[f32]>, grid: Grid) -> Array2<T> {
    linears(x, &[(w, (b, grid))]).pop().unwrap_or_else(|| unreachable!("one layer has one result"))
}

/// Several layers of the same rows, as [`linear_stored`]: the rows are packed once, and the threads share the outputs of
/// all layers. Returns the result of each layer. Spec: C3.3f
///
/// # Panics
/// As [`linear`].
pub fn linears<T: Real>(x: ArrayView2<'_, T>, layers: &[Layer<'_>]) -> Vec<Array2<T>> {
    for (w, (b, _)) in layers {
        assert_eq!(x.ncols(), w.cols, "C3.3a: x has as many columns as w");
        assert!(b.is_none_or(|b| b.len() == w.rows), "C3.3a: one bias for each output");
    }
    let empty = |&(w, _): &Layer<'_>| match x.nrows() {
        ..=SMALL => Array2::from_elem((x.nrows(), w.rows), T::ZERO),
        many => scratch::array(many, w.rows),
    };
    let mut y: Vec<Array2<T>> = layers.iter().map(empty).collect();
    if x.ncols() == 0 {
        // An empty sum is 0; the bias is added to it.
        for (y, (_, (b, grid))) in y.iter_mut().zip(layers) {
            y.fill(T::ZERO);
            let columns = b.iter().copied().flatten().zip(y.columns_mut());
            columns.for_each(|(&b, mut y)| y.fill(grid.round(T::of_f32(b))));
        }
        return y;
    }
    let rows = x.as_standard_layout();
    let flat = "E3.3: x and y are row-major";
    let x = rows.as_slice().unwrap_or_else(|| unreachable!("{flat}"));
    let to = y.iter_mut().map(|y| y.as_slice_mut().unwrap_or_else(|| unreachable!("{flat}")));
    // Functions that are not generic are compiled once, here; generic functions are compiled again for every caller.
    if TypeId::of::<T>() == TypeId::of::<f32>() {
        of_f32(bytemuck::cast_slice(x), layers, to.map(bytemuck::cast_slice_mut).collect());
    } else {
        of_f64(bytemuck::cast_slice(x), layers, to.map(bytemuck::cast_slice_mut).collect());
    }
    y
}

/// The most rows for which weights are read in place. With more registers, packing the weights is worth it only for
/// more rows.
fn few() -> usize {
    if Isa::current() == Isa::Avx512 { 24 } else { 8 }
}

fn of_f32(x: &[f32], layers: &[Layer<'_>], y: Vec<&mut [f32]>) {
    let k = layers.first().map_or(1, |(w, _)| w.cols);
    let in_pairs =
        || layers.iter().all(|(w, _)| matches!(w.values, Elements::Bf16(_))) && pairs::serve() && pairs::hold(x);
    match x.len() / k {
        rows if (1..=few()).contains(&rows) => stream::few(x, k, layers, y),
        _ => many(x, k, layers, y, in_pairs()),
    }
}

fn of_f64(x: &[f64], layers: &[Layer<'_>], y: Vec<&mut [f64]>) {
    many(x, layers.first().map_or(1, |(w, _)| w.cols), layers, y, false);
}

/// x: [m, k], y: [m, n] of each layer; paired: x and all weights are bf16 (D3.3).
fn many<T: Registers>(x: &[T], k: usize, layers: &[Layer<'_>], mut y: Vec<&mut [T]>, paired: bool) {
    let (depths, (_, o)) = (depths(k).collect::<Vec<_>>(), T::tile());
    // Few enough outputs that their packed weights stay in the cache.
    let most = (CACHED / (numbers(&(0..k), paired) * size_of::<T>())).clamp(o, 96);
    let outputs = outputs_at_once(layers, most, o);
    for x in x.chunks(GROUP * k) {
        let (rows, panels) = (x.len() / k, Panels::new(x, x.len() / k, k, &depths, paired));
        let here = y.iter_mut().zip(layers).map(|(y, (w, _))| y.split_off_mut(..rows * w.rows).unwrap_or_default());
        let tasks = tasks(layers, here.collect(), outputs).into_iter();
        share(tasks, |task| run(Block { x: &panels, task }, paired));
    }
}

/// The k inputs, k > 0, as ranges of whole blocks of 32, about equally long.
fn depths(k: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = if k <= WHOLE { 1 } else { k.div_ceil(DEPTH) };
    let step = k.div_ceil(parts).next_multiple_of(BLOCK);
    (0..parts).map(move |i| (i * step).min(k)..((i + 1) * step).min(k))
}

/// One task, for every row.
struct Block<'a, T> {
    x: &'a Panels<T>,
    task: Task<'a, 'a, T>,
}

impl<T: Registers> Kernel<T> for Block<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(self) {
        let Task { w, end, mut y } = self.task;
        let (tiles, k) = (w.rows.div_ceil(O), w.cols);
        let mut packed = Scratch::new(tiles * O * numbers(&(0..k), V::PAIRED));
        match w.values {
            Elements::F32(w) => pack::<V, _, O>(w, k, &self.x.depths, tiles, packed.get_mut()),
            Elements::Bf16(w) => pack::<V, _, O>(w, k, &self.x.depths, tiles, packed.get_mut()),
            Elements::F16(w) => pack::<V, _, O>(w, k, &self.x.depths, tiles, packed.get_mut()),
        }
        let least = if V::PAIRED { pairs::exponent(packed.get()) } else { 0 };
        let mut lanes = Scratch::new(tiles * R * O * LANES);
        let lanes = lanes.get_mut().as_chunks_mut::<LANES>().0;
        for (i, mut y) in y.axis_chunks_iter_mut(Axis(0), R).enumerate() {
            let mut rows: [&mut [T]; R] = std::array::from_fn(|_| &mut [][..]);
            for (to, row) in rows.iter_mut().zip(y.rows_mut()) {
                let Some(row) = row.into_slice() else { unreachable!("E3.3: y is row-major") };
                *to = row;
            }
            let x = self.x.from::<R>(i);
            // Decided for all tiles of these rows at once: a loop with two kinds of tiles would run out of registers.
            match V::PAIRED && !pairs::are_normal(self.x.exponent(i), least) {
                true => rows_of::<Apart<V>, R, O>(x, packed.get(), &self.x.depths, end, lanes, &mut rows),
                false => rows_of::<V, R, O>(x, packed.get(), &self.x.depths, end, lanes, &mut rows),
            }
        }
    }
}

/// R rows of a task's outputs, sweep after sweep. xs, ws: packed rows, with further rows behind them; lanes: [tiles, R,
/// O]; the sums wait in `lanes` between one range of inputs or sweep and the next.
#[inline(always)]
fn rows_of<V: Vector, const R: usize, const O: usize>(
    mut xs: &[V::Number],
    mut ws: &[V::Number],
    depths: &[Range<usize>],
    (b, grid): End<'_>,
    lanes: &mut [Lanes<V::Number>],
    y: &mut [&mut [V::Number]; R],
) {
    let (tiles, sweeps, k) = (lanes.len() / (R * O), LANES / V::WIDTH, depths.last().map_or(0, |d| d.end));
    for depth in depths {
        let row = numbers(depth, V::PAIRED) / sweeps;
        for sweep in 0..sweeps {
            let ((x, xs_after), (w, ws_after)) = (xs.split_at(R * row), ws.split_at(tiles * O * row));
            (xs, ws) = (xs_after, ws_after);
            let (new, last) = (depth.start == 0, depth.end == k && sweep + 1 == sweeps);
            let each = w.chunks_exact(O * row).zip(lanes.chunks_exact_mut(R * O));
            for (j, (w, lanes)) in each.enumerate() {
                let mut sums = [[V::zero(); O]; R];
                if !new {
                    for (sum, lanes) in sums.as_flattened_mut().iter_mut().zip(&*lanes) {
                        *sum = V::load(&lanes[sweep * V::WIDTH..]);
                    }
                }
                // R tiles together prefetch all of the next part of x. After the last part there is nothing to
                // prefetch.
                let next = xs.get(j % R * row..).unwrap_or_default();
                tile::<V, R, O>(x, w, next, &mut sums);
                if last {
                    put(&sums, lanes, (b.map(|b| &b[j * O..]), grid), y, j * O);
                } else {
                    // There is no closure here: it would be compiled without the instruction set.
                    for (sum, lanes) in sums.as_flattened().iter().zip(lanes) {
                        sum.store(&mut lanes[sweep * V::WIDTH..]);
                    }
                }
            }
        }
    }
}

/// Adds up the lanes of a tile's sums, adds the bias, and stores outputs at .. at + O of the R rows y.
#[inline(always)]
fn put<V: Vector, const R: usize, const O: usize>(
    sums: &[[V; O]; R],
    lanes: &[Lanes<V::Number>],
    (bias, grid): End<'_>,
    y: &mut [&mut [V::Number]; R],
    at: usize,
) {
    let mut folded = [[V::Number::ZERO; O]; R];
    let fours = sums.as_flattened().as_chunks::<4>().0.iter().zip(lanes.as_chunks::<4>().0);
    for ((last, lanes), to) in fours.zip(folded.as_flattened_mut().as_chunks_mut::<4>().0) {
        *to = V::fold4(last, lanes);
    }
    if let Some(bias) = bias {
        for row in &mut folded {
            row.iter_mut().zip(bias).for_each(|(sum, &b)| *sum += V::Number::of_f32(b));
        }
    }
    grid.round_all(folded.as_flattened_mut());
    for r in 0..R {
        match y[r].get_mut(at..at + O) {
            Some(y) => y.copy_from_slice(&folded[r]),
            None => y[r].iter_mut().skip(at).zip(folded[r]).for_each(|(y, sum)| *y = sum),
        }
    }
}

/// sum\[r, o\] ← fma(x_k, w_k, sum\[r, o\]) for the k of W lanes, in the order of E2.4.
///
/// x: [steps, R, W], w: [steps, O, W], sums: [R, O, W]. Each step prefetches W numbers of `next`. Spec: E2.4, D3.3
#[inline(always)]
fn tile<V: Vector, const R: usize, const O: usize>(
    x: &[V::Number],
    w: &[V::Number],
    next: &[V::Number],
    sums: &mut [[V; O]; R],
) {
    // A block of 32 inputs takes two steps, the odd inputs and then the even ones; registers of pairs take both in one.
    let steps = if V::PAIRED { 1 } else { 2 };
    let (asked, line) = (steps * V::WIDTH, LINE / size_of::<V::Number>());
    let blocks = x.chunks_exact(steps * R * V::WIDTH).zip(w.chunks_exact(steps * O * V::WIDTH));
    for (block, (x, w)) in blocks.enumerate() {
        for at in (0..asked).step_by(line) {
            V::prefetch(next, block * asked + at);
        }
        for step in 0..steps {
            let (x, w) = (&x[step * R * V::WIDTH..][..R * V::WIDTH], &w[step * O * V::WIDTH..][..O * V::WIDTH]);
            let mut ws = [V::zero(); O];
            for o in 0..O {
                ws[o] = V::load(&w[o * V::WIDTH..][..V::WIDTH]);
            }
            for r in 0..R {
                let x = V::load(&x[r * V::WIDTH..][..V::WIDTH]);
                for o in 0..O {
                    sums[r][o] = x.fma(ws[o], sums[r][o]);
                }
            }
        }
    }
}
