//! Attention of many rows in bf16, on registers of pairs of bf16.
//!
//! The products are those of [`super::outer`] over pairs: two neighbouring elements of a key, or the values of two
//! neighbouring entries. The first of two numbers is the upper half of its lane, so the instruction adds both products in
//! the order of E3.4 and D3.5, and the bits are the same. Spec: D3.3, C3.5d

use super::outer::{CHUNK, TILE, by_fours, fill_scores, mix_rows};
use super::stores::{Stores, scale};
use crate::kernel::cached::HeadView;
use crate::kernel::pairs;
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::vectorize;
use crate::kernel::team::share;
use crate::kernel::vector::{Apart, CacheElement, Kernel, Vector};
use crate::num::{Grid, LANES};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Pairs of rows that are packed in one task.
const PART: usize = 512;

/// The keys and values of one KV head, as pairs.
pub(super) struct Paired {
    /// [blocks of 16 entries, d_h/2, 16].
    keys: Scratch<f32>,
    /// [⌈len/2⌉, d_h].
    values: Scratch<f32>,
    /// The smallest exponent of each chunk of values.
    least: Vec<u32>,
}

impl Paired {
    /// The heads as pairs; None if the CPU has no instruction for pairs, or if a number does not suit it (C3.5d).
    pub(super) fn all<S: CacheElement<f32>>(
        q: &[f32],
        heads: &[HeadView<'_, S>],
        d: usize,
        stores: Stores,
    ) -> Option<Vec<Paired>> {
        let plain = stores.grid == Grid::Bf16 && !stores.tiles && !stores.scaled;
        if !plain || !d.is_multiple_of(2) || d < LANES || !pairs::serve() || !pairs::hold(q) {
            return None;
        }
        let least = pairs::exponent(q);
        let of_head = |head: &HeadView<'_, S>| {
            let (keys, values) = (pack(head.keys, LANES)?, pack(head.values, d)?);
            let chunks: Vec<u32> = values.get().chunks(CHUNK / 2 * d).map(pairs::exponent).collect();
            // A value that is no finite number times an unseen entry's weight, 0, is not 0.
            let serves = pairs::are_normal(least, pairs::exponent(keys.get())) && chunks.iter().all(|&least| least > 0);
            serves.then_some(Paired { keys, values, least: chunks })
        };
        heads.iter().map(of_head).collect()
    }
}

/// Pairs of rows: number i of row 2t is the upper half of lane i of row t, and of row 2t + 1 the lower half. rows: [n, width]
/// → [⌈n/2⌉, width]. None if a number is no bf16.
fn pack<S: CacheElement<f32>>(rows: &[S], width: usize) -> Option<Scratch<f32>> {
    let mut packed = Scratch::new(rows.len().div_ceil(2 * width) * width);
    let lower = AtomicU32::new(0);
    share(packed.get_mut().chunks_mut(PART * width).zip(rows.chunks(2 * PART * width)), |(to, rows)| {
        lower.fetch_or(
            vectorize(
                #[inline(always)]
                || join_rows(rows, width, to),
            ),
            Relaxed,
        );
    });
    (lower.into_inner() & 0xffff == 0).then_some(packed)
}

/// Returns the bits of all numbers, or-ed.
#[inline(always)]
fn join_rows<S: CacheElement<f32>>(rows: &[S], width: usize, to: &mut [f32]) -> u32 {
    let mut bits = 0;
    for (to, both) in to.chunks_exact_mut(width).zip(rows.chunks(2 * width)) {
        let (first, second) = both.split_at(width);
        if second.is_empty() {
            for (to, first) in to.iter_mut().zip(first) {
                bits |= first.widen().to_bits();
                *to = join(first.widen(), 0.0);
            }
        }
        for ((to, first), second) in to.iter_mut().zip(first).zip(second) {
            let (first, second) = (first.widen(), second.widen());
            bits |= first.to_bits() | second.to_bits();
            *to = join(first, second);
        }
    }
    bits
}

/// Pairs of neighbours. from: [2 n] → to: \[n\].
#[inline(always)]
fn join_neighbours(from: &[f32], to: &mut [f32]) {
    for (to, &[first, second]) in to.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = join(first, second);
    }
}

/// The lane that holds two bf16.
#[inline(always)]
fn join(upper: f32, lower: f32) -> f32 {
    f32::from_bits(upper.to_bits() & 0xffff_0000 | lower.to_bits() >> 16)
}

/// One task, as [`super::rows::Rows`].
pub(super) struct PairedRows<'a> {
    pub(super) q: Vec<&'a [f32]>,
    pub(super) seen: Vec<usize>,
    pub(super) head: &'a Paired,
    pub(super) stores: Stores,
    pub(super) outs: Vec<&'a mut [f32]>,
}

impl Kernel<f32> for PairedRows<'_> {
    /// Scores, weights, mix. Spec: E3.5
    #[inline(always)]
    fn run<V: Vector<Number = f32>, const R: usize, const O: usize>(mut self) {
        let (d, count) = (self.q[0].len(), self.q.len());
        let stride = self.seen.iter().fold(0, |m, &s| m.max(s)).next_multiple_of(LANES);
        let (mut scores, mut queries) = (Scratch::new(count * stride), Scratch::new(count * d / 2));
        let scores = scores.get_mut();
        queries.get_mut().chunks_exact_mut(d / 2).zip(&self.q).for_each(|(to, q)| join_neighbours(q, to));
        let q: Vec<&[f32]> = queries.get().chunks_exact(d / 2).collect();
        fill_scores::<f32, f32, V>(&q, self.head.keys.get(), 1.0, scores, stride);
        let mut totals = vec![0.0; count];
        for ((p, total), &seen) in scores.chunks_exact_mut(stride.max(1)).zip(&mut totals).zip(&self.seen) {
            *total = self.stores.weights(&mut p[..seen], scale(d));
            p[seen..].fill(0.0);
        }
        match by_fours(count) {
            true => self.add_mix::<V, 4>(scores, stride),
            false => self.add_mix::<V, TILE>(scores, stride),
        }
        for (out, &total) in self.outs.iter_mut().zip(&totals) {
            self.stores.finish(&mut [], total, out, None);
        }
    }
}

impl PairedRows<'_> {
    /// p: rows of `stride` numbers, 0 where the row sees no entry.
    #[inline(always)]
    fn add_mix<V: Vector<Number = f32>, const R: usize>(&mut self, p: &[f32], stride: usize) {
        let (d, groups) = (self.q[0].len(), self.outs.len().div_ceil(R));
        self.outs.iter_mut().for_each(|out| out.fill(0.0));
        let mut tile = [[0f32; CHUNK / 2]; R];
        for (chunk, &least) in self.head.least.iter().enumerate() {
            let start = chunk * CHUNK;
            let values = &self.head.values.get()[start / 2 * d..];
            for (group, outs) in self.outs.chunks_mut(R).enumerate() {
                let seen = &self.seen[group * R..][..outs.len()];
                let most = seen.iter().fold(0, |m, &s| m.max(s)).clamp(start, start + CHUNK) - start;
                // If the tile has more rows than remain, the last row fills it; its copies are not written.
                for (r, pairs) in tile.iter_mut().enumerate() {
                    let row = group * R + r.min(outs.len() - 1);
                    let p = &p[row * stride..][start.min(stride)..stride.min(start + CHUNK)];
                    join_neighbours(p, pairs);
                    pairs[p.len() / 2..].fill(0.0);
                }
                let mut rows = [&[][..]; R];
                for (row, pairs) in rows.iter_mut().zip(&tile) {
                    *row = &pairs[..most.div_ceil(2)];
                }
                let place = (group, groups, CHUNK / 2);
                match pairs::are_normal(pairs::smallest(bytemuck::cast_slice(tile.as_flattened())), least) {
                    true => mix_rows::<f32, f32, V, R>(&rows, values, d, place, outs),
                    false => mix_rows::<f32, f32, Apart<V>, R>(&rows, values, d, place, outs),
                }
            }
        }
    }
}
