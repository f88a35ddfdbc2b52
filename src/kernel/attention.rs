//! Attention of query rows over the cached keys and values of their KV head.
//!
//! Two sweeps over one row of scores: all scores of the row and their maximum; then the weights exp(s − m), their sum,
//! and the mix. A row of scores is all that is held, never a matrix of them, and the order of every sum depends on the
//! position in the cache alone: not on the number of rows, threads or prefill chunks. That is the reason for two sweeps
//! where others rescale on line (A3.5): the result is the textbook softmax, and the emulated GPU types round what it
//! names.
//! Naive twin: [`super::naive::attention`]. Spec: E3.5

use super::attention_ways::Stores;
use super::simd::vectorize;
use crate::num::{Grid, LANES, Lanes, Real, sum};
use rayon::prelude::*;

/// Rows of queries that one task takes, so that a block of keys is read once for all of them.
const ROWS: usize = 8;
/// Entries after which partial mixes are added up; counted from cache position 0. Spec: D3.5
const CHUNK: usize = 256;

/// The cached keys and values of one KV head, as the kernel reads them. Spec: D3.4
#[derive(Debug, Clone, Copy)]
pub struct HeadView<'a, T> {
    /// Keys in blocks of 16 entries, transposed: [⌈len/16⌉, d_h, 16], the last block padded.
    pub keys: &'a [T],
    /// Values: [len, d_h].
    pub values: &'a [T],
}

/// Appends a key to blocked keys that hold `len` of them so far. key: \[d_h\]. Spec: D3.4
pub fn push_key<T: Real>(keys: &mut Vec<T>, len: usize, key: impl ExactSizeIterator<Item = T>) {
    let (d, lane) = (key.len(), len % LANES);
    if lane == 0 {
        keys.resize(keys.len() + d * LANES, T::ZERO);
    }
    let block = keys.len() - d * LANES;
    key.enumerate().for_each(|(i, v)| keys[block + i * LANES + lane] = v);
}

/// Element `i` of entry `entry` of blocked keys with `d` elements each. Spec: D3.4
#[inline(always)]
pub fn key_at<T: Real>(keys: &[T], d: usize, entry: usize, i: usize) -> T {
    keys[(entry / LANES * d + i) * LANES + entry % LANES]
}

/// Which entries a row of queries sees.
#[derive(Debug, Clone, Copy)]
pub enum Visible {
    /// All of them, as in a vision tower.
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
/// In a GPU's type (`stores`) scores, scaled scores and weights are stored as eager attention stores them (R3.5), or, in
/// a fused kernel, only the unnormalised weights (R10.3).
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
    let stores = stores.into();
    let width = query_heads * head_dim;
    let (rows, group) = (q.len() / width.max(1), query_heads / heads.len().max(1));
    let mut mix = vec![T::ZERO; q.len()];
    if mix.is_empty() {
        return mix;
    }
    let shape = Shape { rows, width, group, head_dim, visible, stores, scale: scale(head_dim) };
    if let Some(received) = received {
        // Waves of tasks, each with a sum of its own, added in the order of the rows.
        for (wave, mix) in mix.chunks_mut(8 * ROWS * width).enumerate() {
            let parts: Vec<Vec<Vec<T>>> = mix
                .par_chunks_mut(ROWS * width)
                .enumerate()
                .map(|(block, mix)| {
                    let first = (wave * 8 + block) * ROWS;
                    let mut sums: Vec<Vec<T>> = received.iter().map(|r| vec![T::ZERO; r.len()]).collect();
                    for (g, head) in heads.iter().enumerate() {
                        shape.block(q, first, g, *head, mix, Some(&mut sums[g]));
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
    } else if rows < 2 * ROWS {
        // Few rows: split over KV heads as well.
        mix.par_chunks_mut(group * head_dim).enumerate().for_each(|(i, mix)| {
            let (row, g) = (i / heads.len(), i % heads.len());
            shape.narrow(q, row, g, heads[g], mix);
        });
    } else {
        mix.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, mix)| {
            for (g, head) in heads.iter().enumerate() {
                shape.block(q, block * ROWS, g, *head, mix, None);
            }
        });
    }
    mix
}

/// 1/√d_h, the scale of the scores.
pub fn scale<T: Real>(head_dim: usize) -> T {
    T::of(1.0 / (head_dim as f64).sqrt())
}

#[derive(Clone, Copy)]
pub(super) struct Shape<T> {
    rows: usize,
    width: usize,
    group: usize,
    pub(super) head_dim: usize,
    visible: Visible,
    pub(super) stores: Stores,
    pub(super) scale: T,
}

impl<T: Real> Shape<T> {
    fn seen(&self, row: usize, len: usize) -> usize {
        match self.visible {
            Visible::All => len,
            Visible::Causal => len + row + 1 - self.rows,
        }
    }

    /// Rows `first..` of the group g; mix: whole rows.
    fn block(&self, q: &[T], first: usize, g: usize, head: HeadView<'_, T>, mix: &mut [T], mut sums: Option<&mut [T]>) {
        let (width, at) = (self.width, g * self.group * self.head_dim);
        let len = head.values.len() / self.head_dim;
        let count = mix.len() / width;
        let seen = self.seen(first + count - 1, len);
        let mut scores = vec![T::ZERO; count * seen.next_multiple_of(LANES)];
        for h in 0..self.group {
            let at = at + h * self.head_dim;
            let queries: Vec<&[T]> = (0..count).map(|r| &q[(first + r) * width + at..][..self.head_dim]).collect();
            let limits: Vec<usize> = (0..count).map(|r| self.seen(first + r, len)).collect();
            let outs = mix.chunks_exact_mut(width).map(|row| &mut row[at..at + self.head_dim]).collect();
            self.rows(&queries, &limits, head, &mut scores, outs, sums.as_deref_mut());
        }
    }

    /// One row of the group g; mix: [group, d_h].
    fn narrow(&self, q: &[T], row: usize, g: usize, head: HeadView<'_, T>, mix: &mut [T]) {
        let len = head.values.len() / self.head_dim;
        let seen = self.seen(row, len);
        let q = &q[row * self.width + g * mix.len()..][..mix.len()];
        let mut scores = vec![T::ZERO; self.group.min(ROWS) * seen.next_multiple_of(LANES)];
        // A group may be larger than a block of rows.
        for (q, mix) in q.chunks(ROWS * self.head_dim).zip(mix.chunks_mut(ROWS * self.head_dim)) {
            let queries: Vec<&[T]> = q.chunks_exact(self.head_dim).collect();
            let scores = &mut scores[..queries.len() * seen.next_multiple_of(LANES)];
            let outs = mix.chunks_exact_mut(self.head_dim).collect();
            self.rows(&queries, &vec![seen; queries.len()], head, scores, outs, None);
        }
    }

    /// Queries that share a KV head: scores, weights, mix.
    fn rows(
        &self,
        q: &[&[T]],
        seen: &[usize],
        head: HeadView<'_, T>,
        scores: &mut [T],
        outs: Vec<&mut [T]>,
        mut sums: Option<&mut [T]>,
    ) {
        let stride = scores.len() / q.len();
        if self.stores.split && self.stores.grid == Grid::Native && sums.is_none() {
            return self.rows_split(q, seen, head, scores, outs);
        }
        if self.stores.grid != Grid::Native {
            return vectorize(
                #[inline(always)]
                || self.rows_rounded(q, seen, head, scores, outs, sums),
            );
        }
        vectorize(
            #[inline(always)]
            || {
                if self.stores.fused && sums.is_none() {
                    return self.rows_scaled_first(q, seen, head, scores, outs);
                }
                fill_scores(q, head.keys, self.head_dim, self.scale, scores, stride);
                let mut totals = [T::ZERO; ROWS];
                for (r, &seen) in seen.iter().enumerate() {
                    totals[r] = weights(&mut scores[r * stride..][..seen]);
                }
                for (r, out) in outs.into_iter().enumerate() {
                    let p = &scores[r * stride..][..seen[r]];
                    add_mix(p, head.values, out);
                    if totals[r] > T::ZERO {
                        out.iter_mut().for_each(|o| *o = *o / totals[r]);
                    }
                    if let Some(sums) = sums.as_deref_mut().filter(|_| totals[r] > T::ZERO) {
                        sums.iter_mut().zip(p).for_each(|(s, &p)| *s += p / totals[r]);
                    }
                }
            },
        );
    }
}

/// scores\[r\]\[i\] = scale · Σ_d q_r\[d\] · k_i\[d\]: lanes over keys, in order over d. Spec: E3.4
#[inline(always)]
pub(super) fn fill_scores<T: Real>(q: &[&[T]], keys: &[T], d: usize, scale: T, scores: &mut [T], stride: usize) {
    let mut r = 0;
    while r < q.len() {
        let end = stride / LANES;
        if r + 4 <= q.len() {
            for b in 0..end {
                let s = score_tile::<T, 4>([q[r], q[r + 1], q[r + 2], q[r + 3]], &keys[b * d * LANES..][..d * LANES]);
                for (i, s) in s.iter().enumerate() {
                    scores[(r + i) * stride + b * LANES..][..LANES].copy_from_slice(&s.map(|s| s * scale));
                }
            }
            r += 4;
        } else {
            for b in 0..end {
                let [s] = score_tile::<T, 1>([q[r]], &keys[b * d * LANES..][..d * LANES]);
                scores[r * stride + b * LANES..][..LANES].copy_from_slice(&s.map(|s| s * scale));
            }
            r += 1;
        }
    }
}

#[inline(always)]
fn score_tile<T: Real, const R: usize>(q: [&[T]; R], keys: &[T]) -> [Lanes<T>; R] {
    let keys = keys.as_chunks::<LANES>().0;
    let q = q.map(|q| &q[..keys.len()]);
    let mut s = [[T::ZERO; LANES]; R];
    for (d, k) in keys.iter().enumerate() {
        for r in 0..R {
            s[r] = axpy(q[r][d], k, s[r]);
        }
    }
    s
}

/// Lane j becomes a · x_j + lane j, rounded once.
#[inline(always)]
fn axpy<T: Real>(a: T, x: &Lanes<T>, mut lanes: Lanes<T>) -> Lanes<T> {
    for j in 0..LANES {
        lanes[j] = a.mul_add(x[j], lanes[j]);
    }
    lanes
}

/// Scores become weights exp(s − m); returns their canonical sum, 0 for an empty row. Spec: E3.2
#[inline(always)]
pub(crate) fn weights<T: Real>(s: &mut [T]) -> T {
    let mut m = [T::NEG_INFINITY; LANES];
    let (blocks, rest) = s.as_chunks::<LANES>();
    for block in blocks {
        for j in 0..LANES {
            m[j] = block[j].max(m[j]);
        }
    }
    let m = m.iter().chain(rest).fold(T::NEG_INFINITY, |m, &v| v.max(m));
    if m == T::NEG_INFINITY {
        s.fill(T::ZERO);
        return T::ZERO;
    }
    s.iter_mut().for_each(|p| *p = (*p - m).exp());
    sum(s)
}

/// out\[d\] = Σ_i p_i · v_i\[d\]: in order over entries within a chunk of 256, chunks added in order. Spec: E3.5
#[inline(always)]
pub(super) fn add_mix<T: Real>(p: &[T], values: &[T], out: &mut [T]) {
    let d = out.len();
    out.fill(T::ZERO);
    for (p, v) in p.chunks(CHUNK).zip(values.chunks(CHUNK * d)) {
        let mut at = 0;
        while at + 2 * LANES <= d {
            mix_lanes::<T, 2>(p, v, d, at, out);
            at += 2 * LANES;
        }
        while at + LANES <= d {
            mix_lanes::<T, 1>(p, v, d, at, out);
            at += LANES;
        }
        for (at, out) in out.iter_mut().enumerate().skip(at) {
            let mut part = T::ZERO;
            for (i, &p) in p.iter().enumerate() {
                part = p.mul_add(v[i * d + at], part);
            }
            *out += part;
        }
    }
}

#[inline(always)]
fn mix_lanes<T: Real, const B: usize>(p: &[T], v: &[T], d: usize, at: usize, out: &mut [T]) {
    let mut parts = [[T::ZERO; LANES]; B];
    for (i, &p) in p.iter().enumerate() {
        let v = v[i * d + at..][..B * LANES].as_chunks::<LANES>().0;
        for b in 0..B {
            parts[b] = axpy(p, &v[b], parts[b]);
        }
    }
    for (out, part) in out[at..][..B * LANES].iter_mut().zip(parts.as_flattened()) {
        *out += *part;
    }
}

/// Softmax of one row of scores, in place.
///
/// s: \[n\], −∞ where masked. A row masked everywhere becomes zeros (C3.2a). Spec: E3.2, A3.2
pub fn softmax<T: Real>(s: &mut [T]) {
    let total = weights(s);
    if total > T::ZERO {
        s.iter_mut().for_each(|p| *p = *p / total);
    }
}
