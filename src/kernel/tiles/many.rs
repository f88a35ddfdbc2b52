//! A linear layer of many rows on the matrix unit.
//!
//! A task takes some outputs, packs their weights, and takes its rows block after block. The inputs are divided into
//! parts: a part of the weights of 32 outputs stays in the first-level cache while rows stream past, and a part of the
//! rows stays in the second-level cache for all outputs of the task. Between one part and the next, sums wait in memory.
//! Spec: E3.16

use super::amx::{Unit, transpose};
use super::end::put;
use super::rows::{BOTH, pack_rows, rows_of};
use super::tile::{PAIRS, SIDE, Strip, Sums, Tile, bits};
use crate::kernel::matrix::End;
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::vectorize;
use crate::kernel::tasks::{Layer, Task, tasks};
use crate::kernel::team::share;
use crate::num::BLOCK;
use ndarray::{ArrayView2, Axis};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The most rows of a block.
const ROWS: usize = 256;
/// The most outputs of a task, and the fewest if that leaves threads without a task.
const OUTPUTS: [usize; 2] = [256, 128];
/// Rows whose products take as long as packing the weights.
const PACKING: usize = 40;
/// The most blocks of 32 inputs in a part.
const PART: usize = 16;

/// Rows x as the unit reads them: for each 32 rows [2 groups, inputs], tiles of [rows, inputs]. x: [m, k]. None if x
/// holds a number that is no bf16.
pub(super) fn packed(x: ArrayView2<'_, f32>) -> Option<Scratch<f32>> {
    let blocks = x.ncols().div_ceil(BLOCK);
    let mut packed = Scratch::new(x.nrows().div_ceil(BOTH) * 2 * blocks * PAIRS * SIDE);
    let tiles: &mut [Tile] = bytemuck::cast_slice_mut(packed.get_mut());
    let narrow = AtomicBool::new(true);
    share(tiles.chunks_mut(2 * blocks).zip(x.axis_chunks_iter(Axis(0), BOTH)), |(tiles, rows)| {
        let all = vectorize(
            #[inline(always)]
            || pack(rows, blocks, tiles),
        );
        narrow.fetch_and(all, Relaxed);
    });
    narrow.into_inner().then_some(packed)
}

/// Layers of m packed rows. y: [m, n] of each layer.
pub(super) fn linears(x: &Scratch<f32>, m: usize, layers: &[Layer<'_>], mut y: Vec<&mut [f32]>) {
    let x: &[Tile] = bytemuck::cast_slice(x.get());
    let threads = rayon::current_num_threads();
    let all: usize = layers.iter().map(|(w, _)| w.rows).sum();
    let columns = all.div_ceil(OUTPUTS[0]).next_multiple_of(threads);
    let outputs = all.div_ceil(columns).max(OUTPUTS[1]).next_multiple_of(BOTH);
    let columns = layers.iter().map(|(w, _)| w.rows.div_ceil(outputs)).sum();
    let rows = rows_at_once(m, columns, threads);
    let mut all = Vec::with_capacity(m.div_ceil(rows) * columns);
    let blocks = layers.first().map_or(1, |(w, _)| w.cols.div_ceil(BLOCK));
    for x in x.chunks(rows / SIDE * blocks) {
        let here = y.iter_mut().zip(layers).map(|(y, (w, _))| {
            let numbers = y.len().min(rows * w.rows);
            y.split_off_mut(..numbers).unwrap_or_default()
        });
        all.extend(tasks(layers, here.collect(), outputs).into_iter().map(|task| (x, task)));
    }
    share(all.into_iter(), |(x, task)| {
        vectorize(
            #[inline(always)]
            || of_task(x, task),
        );
    });
}

/// Rows of a task, such that the busiest thread has the fewest rows, its packed weights counted as rows. columns: tasks for
/// the same rows.
fn rows_at_once(m: usize, columns: usize, threads: usize) -> usize {
    let rows = |parts: usize| m.div_ceil(parts).next_multiple_of(BOTH);
    let busiest = |parts: &usize| (m.div_ceil(rows(*parts)) * columns).div_ceil(threads) * (rows(*parts) + PACKING);
    rows((1..=threads).min_by_key(busiest).unwrap_or(1))
}

/// Packs up to 32 rows of x into tiles, [groups of rows, blocks], each \[rows, inputs\]. Returns whether every number is a
/// bf16.
#[inline(always)]
fn pack(rows: ArrayView2<'_, f32>, blocks: usize, tiles: &mut [Tile]) -> bool {
    let mut all = [&[][..]; BOTH];
    for (to, row) in all.iter_mut().zip(rows.outer_iter()) {
        *to = row.to_slice().unwrap_or_else(|| unreachable!("E3.16: x is row-major"));
    }
    pack_rows(&all, blocks, tiles) & 0xffff == 0
}

/// One task. x: the tiles of its rows.
#[inline(always)]
fn of_task(x: &[Tile], Task { w, end, mut y }: Task<'_, '_, f32>) {
    let (k, n, w, mut y) = (w.cols, w.rows, bits(w), rows_of(&mut y));
    let blocks = k.div_ceil(BLOCK);
    let mut packed = Scratch::<f32>::new(n.div_ceil(BOTH) * 2 * blocks * PAIRS * SIDE);
    let packed: &mut [Tile] = bytemuck::cast_slice_mut(packed.get_mut());
    for (i, tiles) in packed.chunks_exact_mut(blocks).enumerate() {
        pack_weights(w.get(i * SIDE * k..).unwrap_or_default(), k, tiles);
    }
    let Some(unit) = Unit::take() else { unreachable!("E3.16: the unit was there") };
    let parts = blocks.div_ceil(PART);
    let part = blocks.div_ceil(parts);
    let waiting = if parts > 1 { y.len().min(ROWS).div_ceil(BOTH) * n.div_ceil(BOTH) } else { 1 };
    let mut sums = Scratch::<f32>::new(waiting * BOTH * BOTH);
    let sums: &mut [Sums] = bytemuck::cast_slice_mut(sums.get_mut());
    for (x, y) in x.chunks(ROWS / SIDE * blocks).zip(y.chunks_mut(ROWS)) {
        for start in (0..blocks).step_by(part) {
            let here = part.min(blocks - start);
            for (g, columns) in packed.chunks_exact(2 * blocks).enumerate() {
                for (r, (x, y)) in x.chunks_exact(2 * blocks).zip(y.chunks_mut(BOTH)).enumerate() {
                    let sums = &mut sums[(g * ROWS / BOTH + r) % waiting];
                    match start {
                        0 => unit.begin(),
                        _ => unit.resume(sums),
                    }
                    let [rows, columns] = [x, columns].map(|tiles| part_of(tiles, blocks, start));
                    unit.add(rows, columns, here, Some(2 * blocks * SIDE * BLOCK));
                    unit.store(sums);
                    if start + here == blocks {
                        put_all(sums, end, g * BOTH..n.min(g * BOTH + BOTH), y);
                    }
                }
            }
        }
    }
}

/// The tiles of two groups from block `start` on.
#[inline(always)]
fn part_of(tiles: &[Tile], blocks: usize, start: usize) -> [Strip<'_>; 2] {
    [Strip::packed(&tiles[start..blocks]), Strip::packed(&tiles[blocks + start..])]
}

/// Stores the sums of up to 32 rows y and of `outputs`, up to 32.
#[inline(always)]
fn put_all(sums: &Sums, end: End<'_>, outputs: Range<usize>, y: &mut [&mut [f32]]) {
    let middle = outputs.end.min(outputs.start + SIDE);
    for (sums, y) in sums.iter().zip(y.chunks_mut(SIDE)) {
        for (sums, outputs) in sums.iter().zip([outputs.start..middle, middle..outputs.end]) {
            put(sums, end, &outputs, y);
        }
    }
}

/// Packs the weights of up to 16 outputs into tiles of [pairs, outputs].
#[inline(always)]
fn pack_weights(w: &[u16], k: usize, tiles: &mut [Tile]) {
    let bytes: &[u8] = bytemuck::cast_slice(w);
    for (s, tile) in tiles.iter_mut().enumerate() {
        let pairs: &mut [[f32; PAIRS]; SIDE] = bytemuck::cast_mut(tile);
        let mut rows = bytes.chunks_exact(2 * k).map(|row| &row[2 * s * BLOCK..]);
        for pairs in &mut *pairs {
            let row = rows.next().unwrap_or_default();
            match row.first_chunk::<{ 2 * BLOCK }>() {
                Some(whole) => *pairs = bytemuck::cast(*whole),
                None => {
                    *pairs = [0.0; PAIRS];
                    bytemuck::cast_slice_mut(pairs)[..row.len()].copy_from_slice(row);
                }
            }
        }
        transpose(pairs);
    }
}
