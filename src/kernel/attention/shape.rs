//! Splits attention over threads: rows and KV heads, or the entries of one long row.

use super::entries::{entries_at_once, over_entries};
use super::outer::TILE;
use super::paired::{Paired, PairedRows};
use super::rows::Rows;
use super::stores::Stores;
use crate::kernel::cached::HeadView;
use crate::kernel::simd::Registers;
use crate::kernel::team::share;
use crate::kernel::vector::CacheElement;
use crate::num::LANES;
use half::{bf16, f16};
use rayon::prelude::*;

/// Rows of a block. Received attention is summed over a block first, then over blocks (E3.15). A prefill's task takes
/// one block or more.
const ROWS: usize = 8;
/// From this many rows on, threads share rows, not heads.
const MANY: usize = 2 * ROWS;
/// The most scores in one task, unless a single head has more.
const SCORES: usize = 128 << 10;
/// Rows and scores of a task on the matrix unit, as multiples of the above: a task packs its keys and values first.
const PACKS: usize = 2;

/// The cached entries of a KV head, and the same as pairs of bf16 if pairs serve.
type Head<'a, S> = (HeadView<'a, S>, Option<&'a Paired>);

/// The entries that a row of queries sees.
#[derive(Debug, Clone, Copy)]
pub enum Visible {
    /// All entries, as in a vision tower.
    All,
    /// Row r of the R rows sees the first len − R + r + 1 entries: the rows are the last R entries of the cache.
    Causal,
}

/// What is computed, and how.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) group: usize,
    pub(super) head_dim: usize,
    pub(super) visible: Visible,
    pub(super) stores: Stores,
}

impl Shape {
    pub(super) fn of_f32(
        &self,
        q: &[f32],
        heads: &[HeadView<'_, f32>],
        mix: &mut [f32],
        received: Option<Vec<&mut [f32]>>,
    ) {
        let paired = received.is_none().then(|| self.paired(q, heads)).flatten();
        self.all(q, heads, paired, mix, received);
    }

    pub(super) fn of_bf16(
        &self,
        q: &[f32],
        heads: &[HeadView<'_, bf16>],
        mix: &mut [f32],
        received: Option<Vec<&mut [f32]>>,
    ) {
        let paired = received.is_none().then(|| self.paired(q, heads)).flatten();
        self.all(q, heads, paired, mix, received);
    }

    pub(super) fn of_f16(
        &self,
        q: &[f32],
        heads: &[HeadView<'_, f16>],
        mix: &mut [f32],
        received: Option<Vec<&mut [f32]>>,
    ) {
        self.all(q, heads, None, mix, received);
    }

    pub(super) fn of_f64(
        &self,
        q: &[f64],
        heads: &[HeadView<'_, f64>],
        mix: &mut [f64],
        received: Option<Vec<&mut [f64]>>,
    ) {
        self.all(q, heads, None, mix, received);
    }

    /// The heads as pairs of bf16, if that serves.
    fn paired<S: CacheElement<f32>>(&self, q: &[f32], heads: &[HeadView<'_, S>]) -> Option<Vec<Paired>> {
        if self.rows < MANY { None } else { Paired::all(q, heads, self.head_dim, self.stores) }
    }

    /// Splits the work over rows; if there are few rows, over KV heads too. mix: [rows, width].
    fn all<T: Registers, S: CacheElement<T>>(
        &self,
        q: &[T],
        heads: &[HeadView<'_, S>],
        paired: Option<Vec<Paired>>,
        mix: &mut [T],
        received: Option<Vec<&mut [T]>>,
    ) {
        let width = self.width;
        if let Some(mut received) = received {
            // Each block of rows has a separate sum; the sums of a wave of blocks are added in the order of the rows.
            for (wave, mix) in mix.chunks_mut(8 * ROWS * width).enumerate() {
                let parts: Vec<Vec<Vec<T>>> = mix
                    .par_chunks_mut(ROWS * width)
                    .enumerate()
                    .map(|(block, mix)| {
                        let first = (wave * 8 + block) * ROWS;
                        let mut sums: Vec<Vec<T>> = received.iter().map(|r| vec![T::ZERO; r.len()]).collect();
                        for (g, head) in heads.iter().enumerate() {
                            self.block(q, first, g, (*head, None), mix, Some(&mut sums[g]));
                        }
                        sums
                    })
                    .collect();
                for part in parts {
                    for (total, part) in received.iter_mut().zip(part) {
                        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
                    }
                }
            }
        } else if self.rows < MANY {
            let of_head = |i: usize| (i / heads.len(), i % heads.len());
            let queries = |i: usize| &q[i * self.group * self.head_dim..][..self.group * self.head_dim];
            let seen = |row, g: usize| self.seen(row, heads[g].values.len() / self.head_dim);
            let all = mix.chunks_mut(self.group * self.head_dim).enumerate();
            let entries = heads.iter().map(|h| h.values.len() / self.head_dim).fold(0, usize::max);
            let part = entries_at_once(entries);
            let Stores { grid, tiles, .. } = self.stores;
            let plain = self.stores == (Stores { tiles, ..Stores::from(grid) });
            if plain && entries >= 2 * part && self.rows * heads.len() < rayon::current_num_threads() {
                return all.for_each(|(i, mix)| {
                    let (row, g) = of_head(i);
                    over_entries(queries(i), self.head_dim, seen(row, g), part, heads[g], self.stores, mix);
                });
            }
            share(all, |(i, mix)| {
                let (row, g) = of_head(i);
                let narrow = Shape { width: mix.len(), rows: 1, ..*self };
                narrow.heads(queries(i), &[seen(row, g)], 0..self.group, 0, (heads[g], None), mix, None);
            });
        } else {
            let rows = match self.stores.tiles {
                // Enough rows that packing keys and values is little work, and a task for each thread.
                true => (PACKS * 128 / self.group).min(self.rows.div_ceil(rayon::current_num_threads())).max(4 * ROWS),
                false => (6 * TILE / self.group).max(1).next_multiple_of(TILE),
            };
            let pairs = |g: usize| paired.as_ref().map(|paired| &paired[g]);
            // Later rows see more entries, so their tasks come first.
            share(mix.chunks_mut(rows * width).enumerate().rev(), |(block, mix)| {
                for (g, head) in heads.iter().enumerate() {
                    self.block(q, block * rows, g, (*head, pairs(g)), mix, None);
                }
            });
        }
    }

    fn seen(&self, row: usize, len: usize) -> usize {
        match self.visible {
            Visible::All => len,
            Visible::Causal => len + row + 1 - self.rows,
        }
    }

    /// Rows from `first` on, for all heads of group g; mix: whole rows.
    fn block<T: Registers, S: CacheElement<T>>(
        &self,
        q: &[T],
        first: usize,
        g: usize,
        head: Head<'_, S>,
        mix: &mut [T],
        mut sums: Option<&mut [T]>,
    ) {
        let (count, len) = (mix.len() / self.width, head.0.values.len() / self.head_dim);
        let seen: Vec<usize> = (first..first + count).map(|row| self.seen(row, len)).collect();
        let stride = seen[count - 1].next_multiple_of(LANES).max(1);
        let scores = if self.stores.tiles { PACKS * SCORES } else { SCORES };
        let at_once = (scores / (count * stride)).clamp(1, self.group);
        let q = &q[first * self.width..][..mix.len()];
        for h in (0..self.group).step_by(at_once) {
            let some = h..self.group.min(h + at_once);
            self.heads(q, &seen, some, g * self.group, head, mix, sums.as_deref_mut());
        }
    }

    /// The heads `some` of a group, for all rows; q, mix: [rows, width].
    #[allow(clippy::too_many_arguments)]
    fn heads<T: Registers, S: CacheElement<T>>(
        &self,
        q: &[T],
        seen: &[usize],
        some: std::ops::Range<usize>,
        group: usize,
        head: Head<'_, S>,
        mix: &mut [T],
        sums: Option<&mut [T]>,
    ) {
        let d = self.head_dim;
        let queries = some.clone().flat_map(|h| q.chunks_exact(self.width).map(move |q| &q[(group + h) * d..][..d]));
        let mut outs: Vec<Vec<&mut [T]>> = some.clone().map(|_| Vec::with_capacity(seen.len())).collect();
        for row in mix.chunks_exact_mut(self.width) {
            let row = &mut row[(group + some.start) * d..(group + some.end) * d];
            row.chunks_exact_mut(d).zip(&mut outs).for_each(|(out, outs)| outs.push(out));
        }
        let seen = some.flat_map(|_| seen.iter().copied()).collect();
        let (head, pairs) = head;
        match pairs {
            None => T::run(Rows {
                q: queries.collect(),
                seen,
                head,
                stores: self.stores,
                outs: outs.into_iter().flatten().collect(),
                sums,
            }),
            Some(head) => f32::run_paired(PairedRows {
                q: queries.map(bytemuck::cast_slice).collect(),
                seen,
                head,
                stores: self.stores,
                outs: outs.into_iter().flatten().map(bytemuck::cast_slice_mut).collect(),
            }),
        }
    }
}
