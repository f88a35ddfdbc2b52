//! Attention of query rows over the cached keys and values of their KV head.
//!
//! A row takes two sweeps: first all its scores and their maximum; then the weights exp(s − m), their sum, and the mix.
//! Memory holds rows of scores, never a matrix. The order of every sum depends only on positions in the cache, not on
//! the number of rows, threads or chunks of a prefill. Online softmax, which rescales, cannot guarantee that (A3.5).
//!
//! ```text
//! mod       splits the work over threads: rows and KV heads, or (entries) the entries of one long row
//! rows      one task: some rows of queries over the entries of one KV head
//! entries   one row over many entries, which threads share
//! outer     the two products, scores and mix, with sums in registers
//! stores    what is stored in between: R3.5, R10.3
//! ```
//! In the order of a matrix unit, [`super::tiles`] computes the two products (E3.17).
//! Naive twin: [`super::naive::attention`]. Spec: E3.5

mod entries;
mod outer;
mod rows;
mod stores;

pub use rows::truncated;
pub use stores::{Stores, scale, tf32};

use super::cached::{HeadView, HeadViews};
use super::operands::Operands;
use super::simd::Registers;
use super::team::share;
use super::vector::CacheElement;
use crate::num::{LANES, Real};
use entries::{entries_at_once, over_entries};
use half::{bf16, f16};
pub(super) use outer::CHUNK;
use outer::TILE;
use rayon::prelude::*;
use rows::Rows;
use std::any::TypeId;

/// Rows of a block. Received attention is summed over a block first, then over blocks (E3.15). A prefill's task takes
/// one block or more.
const ROWS: usize = 8;
/// The most scores in one task, unless a single head has more.
const SCORES: usize = 128 << 10;
/// Rows and scores of a task on the matrix unit, as multiples of the above: a task packs its keys and values first.
const PACKS: usize = 2;

/// The entries that a row of queries sees.
#[derive(Debug, Clone, Copy)]
pub enum Visible {
    /// All entries, as in a vision tower.
    All,
    /// Row r of the R rows sees the first len − R + r + 1 entries: the rows are the last R entries of the cache.
    Causal,
}

/// The attention of every query head.
///
/// q: [rows, H·d_h] (head-major in a row), heads: the G KV heads, each with its own length → mix: [rows, H·d_h], the
/// heads side by side. Query head h reads KV head h / (H/G). A row that sees nothing gets zeros (C3.5a).
/// With `received`, [G, len], each entry's weight is added to it, summed over rows and the query heads of the group.
///
/// In a GPU's type (`stores`) scores, scaled scores and weights are stored as eager attention stores them (R3.5), or,
/// in a fused kernel, only the unnormalised weights (R10.3).
/// Spec: E3.5
pub fn attention<T: Real>(
    q: &[T],
    query_heads: usize,
    heads: &[HeadView<'_, T>],
    head_dim: usize,
    visible: Visible,
    stores: impl Into<Stores>,
    received: Option<&mut [Vec<T>]>,
) -> Vec<T> {
    let (mut mix, heads) = (vec![T::ZERO; q.len()], HeadViews::Own(heads.to_vec()));
    attention_over(q, query_heads, &heads, head_dim, visible, stores.into(), received, &mut mix);
    mix
}

/// As [`attention`], over a cache that stores numbers of the container, or bf16 or f16, which are widened when read. Every number
/// of `mix`, [rows, H·d_h], is written. Spec: E3.5, D7.4
///
/// # Panics
/// The container is f64, and the cache stores another type (C7.4a) or the order is that of a matrix unit (E3.17).
#[allow(clippy::too_many_arguments)]
pub fn attention_over<T: Real>(
    q: &[T],
    query_heads: usize,
    heads: &HeadViews<'_, T>,
    head_dim: usize,
    visible: Visible,
    stores: Stores,
    received: Option<&mut [Vec<T>]>,
    mix: &mut [T],
) {
    let width = query_heads * head_dim;
    let (rows, group) = (q.len() / width.max(1), query_heads / heads.len().max(1));
    assert_eq!(q.len(), mix.len(), "E3.5: a mix for each query");
    assert!(!stores.tiles || TypeId::of::<T>() == TypeId::of::<f32>(), "E3.17: tiles add in f32");
    if mix.is_empty() {
        return;
    }
    let shape = Shape { rows, width, group, head_dim, visible, stores };
    // Numbers of bf16 and f16 have at most 10 bits of mantissa.
    let narrowed: Vec<_> = match heads {
        HeadViews::Own(heads) if stores.operands != Operands::Whole => {
            heads.iter().map(|head| [head.keys, head.values].map(|x| stores.operands.read_all(x))).collect()
        }
        _ => vec![],
    };
    let narrowed = HeadViews::Own(narrowed.iter().map(|[keys, values]| HeadView { keys, values }).collect());
    let heads = if narrowed.is_empty() { heads } else { &narrowed };
    // Functions that are not generic are compiled once, here; generic functions are compiled again for every caller.
    let (q, to) = (bytemuck::cast_slice(q), bytemuck::cast_slice_mut(mix));
    match heads {
        HeadViews::Own(heads) if TypeId::of::<T>() == TypeId::of::<f32>() => {
            shape.of_f32(q, &cast(heads), to, sums(received));
        }
        HeadViews::Own(heads) => {
            shape.of_f64(bytemuck::cast_slice(q), &cast(heads), bytemuck::cast_slice_mut(to), sums(received));
        }
        HeadViews::Bf16(heads) => {
            assert!(TypeId::of::<T>() == TypeId::of::<f32>(), "C7.4a: only a cache of f32 stores bf16");
            shape.of_bf16(q, heads, to, sums(received));
        }
        HeadViews::F16(heads) => {
            assert!(TypeId::of::<T>() == TypeId::of::<f32>(), "C7.4a: only a cache of f32 stores f16");
            shape.of_f16(q, heads, to, sums(received));
        }
    }
}

/// The same heads; `T` and `U` are the same container.
fn cast<'a, T: Real, U: Real>(heads: &[HeadView<'a, T>]) -> Vec<HeadView<'a, U>> {
    let cast =
        |h: &HeadView<'a, T>| HeadView { keys: bytemuck::cast_slice(h.keys), values: bytemuck::cast_slice(h.values) };
    heads.iter().map(cast).collect()
}

/// The same received sums; `T` and `U` are the same container.
fn sums<T: Real, U: Real>(received: Option<&mut [Vec<T>]>) -> Option<Vec<&mut [U]>> {
    received.map(|received| received.iter_mut().map(|r| bytemuck::cast_slice_mut(r)).collect())
}

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    width: usize,
    group: usize,
    head_dim: usize,
    visible: Visible,
    stores: Stores,
}

impl Shape {
    fn of_f32(&self, q: &[f32], heads: &[HeadView<'_, f32>], mix: &mut [f32], received: Option<Vec<&mut [f32]>>) {
        self.all(q, heads, mix, received);
    }

    fn of_bf16(&self, q: &[f32], heads: &[HeadView<'_, bf16>], mix: &mut [f32], received: Option<Vec<&mut [f32]>>) {
        self.all(q, heads, mix, received);
    }

    fn of_f16(&self, q: &[f32], heads: &[HeadView<'_, f16>], mix: &mut [f32], received: Option<Vec<&mut [f32]>>) {
        self.all(q, heads, mix, received);
    }

    fn of_f64(&self, q: &[f64], heads: &[HeadView<'_, f64>], mix: &mut [f64], received: Option<Vec<&mut [f64]>>) {
        self.all(q, heads, mix, received);
    }

    /// Splits the work over rows; if there are few rows, over KV heads too. mix: [rows, width].
    fn all<T: Registers, S: CacheElement<T>>(
        &self,
        q: &[T],
        heads: &[HeadView<'_, S>],
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
                            self.block(q, first, g, *head, mix, Some(&mut sums[g]));
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
        } else if self.rows < 2 * ROWS {
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
                narrow.heads(queries(i), &[seen(row, g)], 0..self.group, 0, heads[g], mix, None);
            });
        } else {
            let rows = match self.stores.tiles {
                // Enough rows that packing keys and values is little work, and a task for each thread.
                true => (PACKS * 128 / self.group).min(self.rows.div_ceil(rayon::current_num_threads())).max(4 * ROWS),
                false => (6 * TILE / self.group).max(1).next_multiple_of(TILE),
            };
            // Later rows see more entries, so their tasks come first.
            share(mix.chunks_mut(rows * width).enumerate().rev(), |(block, mix)| {
                for (g, head) in heads.iter().enumerate() {
                    self.block(q, block * rows, g, *head, mix, None);
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
        head: HeadView<'_, S>,
        mix: &mut [T],
        mut sums: Option<&mut [T]>,
    ) {
        let (count, len) = (mix.len() / self.width, head.values.len() / self.head_dim);
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
        head: HeadView<'_, S>,
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
        let rows = Rows {
            q: queries.collect(),
            seen: some.flat_map(|_| seen.iter().copied()).collect(),
            head,
            stores: self.stores,
            outs: outs.into_iter().flatten().collect(),
            sums,
        };
        T::run(rows);
    }
}
