//! A linear layer of few rows on the matrix unit.
//!
//! Memory is the limit, so the unit reads the weights where the checkpoint has them: a tile's rows are outputs, its
//! columns are rows of x. The sums come as \[outputs, rows\], and are transposed before they are stored. Spec: E3.16

use super::amx::{Unit, transpose};
use super::end::put;
use super::rows::rows_of;
use super::tile::{PAIRS, SIDE, Strip, Sums, Tile, bits};
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::vectorize;
use crate::kernel::tasks::{Layer, Task, outputs_at_once, tasks};
use crate::kernel::team::share;
use crate::num::BLOCK;
use ndarray::{ArrayView2, Axis};
use std::ops::Range;

/// The most rows for which weights are read in place.
pub(super) const FEW: usize = 2 * SIDE;

/// At most 32 rows x as the unit reads them: [groups of 16, inputs], tiles of [pairs, rows]. x: [m, k]. None if x holds a
/// number that is no bf16.
pub(super) fn packed(x: ArrayView2<'_, f32>) -> Option<Scratch<f32>> {
    let per_group = x.ncols().div_ceil(BLOCK);
    let mut packed = Scratch::new(x.nrows().div_ceil(SIDE) * per_group * PAIRS * SIDE);
    let tiles: &mut [Tile] = bytemuck::cast_slice_mut(packed.get_mut());
    let mut narrow = true;
    vectorize(
        #[inline(always)]
        || {
            for (tiles, rows) in tiles.chunks_mut(per_group).zip(x.axis_chunks_iter(Axis(0), SIDE)) {
                narrow &= pack(rows, tiles);
            }
        },
    );
    narrow.then_some(packed)
}

/// Layers of packed rows. y: [m, n] of each layer.
pub(super) fn linears(x: &Scratch<f32>, layers: &[Layer<'_>], y: Vec<&mut [f32]>) {
    let x = bytemuck::cast_slice(x.get());
    let all: usize = layers.iter().map(|(w, _)| w.rows).sum();
    // Some tasks for each thread: of those that share memory, some are faster than others.
    let most = (all / (3 * rayon::current_num_threads())).max(4 * SIDE);
    let outputs = outputs_at_once(layers, most, 2 * SIDE);
    share(tasks(layers, y, outputs).into_iter(), |task| {
        vectorize(
            #[inline(always)]
            || of_task(x, task),
        );
    });
}

/// Packs up to 16 rows of x into one tile of \[pairs, rows\] for each 32 inputs. Returns whether every number is a bf16.
#[inline(always)]
fn pack(rows: ArrayView2<'_, f32>, tiles: &mut [Tile]) -> bool {
    let mut lower = 0;
    for (s, tile) in tiles.iter_mut().enumerate() {
        let pairs: &mut [[f32; PAIRS]; SIDE] = bytemuck::cast_mut(tile);
        pairs[rows.nrows()..].fill([0.0; PAIRS]);
        for (row, pairs) in rows.outer_iter().zip(&mut *pairs) {
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
        transpose(pairs);
    }
    lower & 0xffff == 0
}

/// One task. x: the tiles of the groups of rows, one or two.
#[inline(always)]
fn of_task(x: &[Tile], task: Task<'_, '_, f32>) {
    let (first, second) = x.split_at(task.w.cols.div_ceil(BLOCK));
    match second.is_empty() {
        true => of_groups([first], task),
        false => of_groups([first, second], task),
    }
}

/// One task. x: the tiles of each group of rows.
#[inline(always)]
fn of_groups<const C: usize>(x: [&[Tile]; C], Task { w, end, mut y }: Task<'_, '_, f32>) {
    let Some(unit) = Unit::take() else { unreachable!("E3.16: the unit was there") };
    let (n, k) = (w.rows, w.cols);
    let (w, blocks, mut y) = (bits(w), k / BLOCK, rows_of(&mut y));
    let mut sums = Sums::default();
    for first in (0..n).step_by(2 * SIDE) {
        let groups = [first, first + SIDE].map(|first| Group::new(w, k, first.min(n)..n.min(first + SIDE)));
        unit.begin();
        unit.add([0, 1].map(|i| groups[i].whole()), x.map(Strip::packed), blocks, Some(2 * SIDE * k));
        if let [Some(rows), Some(others)] = [0, 1].map(|i| groups[i].last()) {
            unit.add([rows, others], x.map(|x| Strip::packed(&x[blocks..])), 1, None);
        }
        unit.store(&mut sums);
        for (i, sums) in sums.iter_mut().enumerate() {
            let outputs = (first + i * SIDE).min(n)..n.min(first + (i + 1) * SIDE);
            for (sums, y) in sums.iter_mut().zip(y.chunks_mut(SIDE)) {
                transpose(sums); // from [outputs, rows] to [rows, outputs]
                put(sums, end, &outputs, y);
            }
        }
    }
}

/// The weights of up to 16 outputs, in place where whole tiles of them are in memory.
struct Group<'a> {
    numbers: &'a [u16],
    k: usize,
    /// A copy with missing outputs as zeros, if outputs are missing.
    copy: Vec<u16>,
    /// The inputs after the last whole block, if there are any.
    last: Option<Tile>,
}

impl<'a> Group<'a> {
    fn new(w: &'a [u16], k: usize, outputs: Range<usize>) -> Self {
        let numbers = &w[outputs.start * k..outputs.end * k];
        let mut copy = Vec::new();
        if outputs.len() < SIDE {
            copy = numbers.to_vec();
            copy.resize(SIDE * k, 0);
        }
        let rest = k % BLOCK;
        let last = (rest > 0).then(|| {
            let mut last = [0; PAIRS * SIDE];
            let rows = bytemuck::cast_slice_mut::<_, u16>(&mut last).chunks_exact_mut(BLOCK);
            rows.zip(numbers.chunks_exact(k)).for_each(|(to, row)| to[..rest].copy_from_slice(&row[k - rest..]));
            last
        });
        Group { numbers, k, copy, last }
    }

    fn whole(&self) -> Strip<'_> {
        Strip::in_place(if self.copy.is_empty() { self.numbers } else { &self.copy }, self.k)
    }

    fn last(&self) -> Option<Strip<'_>> {
        self.last.as_ref().map(|last| Strip::packed(std::slice::from_ref(last)))
    }
}
