//! One task of attention: some rows of queries over the entries of one KV head. Spec: E3.5

use super::outer::{add_mix, fill_scores};
use super::stores::{Stores, scale, tf32};
use crate::kernel::cached::{HeadView, key_at};
use crate::kernel::operands::Operands;
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::Registers;
use crate::kernel::softmax::weights;
use crate::kernel::tiles::attention as tiles;
use crate::kernel::vector::{CacheElement, Kernel, Vector};
use crate::num::{Grid, LANES, Real};

/// Queries that share a KV head, head after head; q, outs: rows of d_h.
pub(super) struct Rows<'a, T, S> {
    pub(super) q: Vec<&'a [T]>,
    pub(super) seen: Vec<usize>,
    pub(super) head: HeadView<'a, S>,
    pub(super) stores: Stores,
    pub(super) outs: Vec<&'a mut [T]>,
    pub(super) sums: Option<&'a mut [T]>,
}

impl<T: Registers, S: CacheElement<T>> Kernel<T> for Rows<'_, T, S> {
    /// Scores, weights, mix. Spec: E3.5
    #[inline(always)]
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(mut self) {
        let (native, operands) = (self.stores.grid == Grid::Native, self.stores.operands);
        if native && self.sums.is_some() {
            self.stores = Stores { operands, ..Stores::from(Grid::Native) };
        }
        let most = self.seen.iter().fold(0, |m, &s| m.max(s));
        let stride = most.next_multiple_of(LANES);
        let mut scores = Scratch::new(self.q.len() * stride);
        let scores = scores.get_mut();
        if native && self.stores.split {
            return self.split(scores, stride);
        }
        let mut scale = scale::<T>(self.q[0].len());
        let mut scaled = Vec::new();
        let mut q = self.q;
        if self.stores.scales_queries() {
            let (grid, by) = (self.stores.grid, self.stores.grid.round(scale));
            scaled.extend(q.iter().flat_map(|q| q.iter().map(|&q| operands.read(grid.round(q * by)))));
            scale = T::ONE;
        } else if operands != Operands::Whole {
            scaled.extend(q.iter().flat_map(|q| q.iter().map(|&q| operands.read(q))));
        }
        if !scaled.is_empty() {
            q = scaled.chunks_exact(q[0].len()).collect();
        }
        let at_once = self.stores.at_once(scale);
        match self.stores.tiles {
            true => tiles::fill_scores(&q, self.head.keys, scores, stride),
            false => fill_scores::<T, S, V>(&q, self.head.keys, at_once, scores, stride),
        }
        let mut totals = vec![T::ZERO; q.len()];
        for (r, total) in totals.iter_mut().enumerate() {
            *total = self.stores.weights(&mut scores[r * stride..][..self.seen[r]], scale);
        }
        if native && self.stores.chain {
            for (r, out) in self.outs.into_iter().enumerate() {
                one_by_one(&scores[r * stride..][..self.seen[r]], totals[r], self.head.values, operands, out);
            }
            return;
        }
        match self.stores.tiles {
            true => tiles::add_mix(scores, stride, &self.seen, self.head.values, &mut self.outs),
            false => add_mix::<T, S, V>(scores, stride, &self.seen, self.head.values, &mut self.outs),
        }
        for (r, out) in self.outs.iter_mut().enumerate() {
            let p = &mut scores[r * stride..][..self.seen[r]];
            self.stores.finish(p, totals[r], out, self.sums.as_deref_mut());
        }
    }
}

/// The mix of a row with divided weights, one entry after the other. Only the measurement of noise uses it. Spec: D10.1
#[inline(always)]
fn one_by_one<T: Real, S: CacheElement<T>>(p: &[T], total: T, values: &[S], operands: Operands, out: &mut [T]) {
    out.fill(T::ZERO);
    for (&p, v) in p.iter().zip(values.chunks(out.len())) {
        let p = operands.read(p / total);
        for (o, v) in out.iter_mut().zip(v) {
            *o = p.mul_add(v.widen(), *o);
        }
    }
}

/// Products that a tensor core adds at once.
const AT_ONCE: usize = 8;
/// Entries whose mix stays in a tensor core's accumulator.
const TILE: usize = 64;

impl<T: Registers, S: CacheElement<T>> Rows<'_, T, S> {
    /// The same on a tensor core: each product is the sum of three TF32 products, and the accumulator is truncated. Only
    /// the measurement of noise uses it. Spec: R10.7
    #[inline(always)]
    fn split(self, scores: &mut [T], stride: usize) {
        let d = self.q[0].len();
        let operands = self.stores.operands;
        let halves = |x: &[T]| x.iter().map(|&x| split(operands.read(x))).collect::<Vec<_>>();
        let kept = |x: &[S]| x.iter().map(|&x| split(x.widen())).collect::<Vec<_>>();
        let (keys, values) = (kept(self.head.keys), kept(self.head.values));
        for (r, out) in self.outs.into_iter().enumerate() {
            let (q, p) = (halves(self.q[r]), &mut scores[r * stride..][..self.seen[r]]);
            for (i, p) in p.iter_mut().enumerate() {
                let step = |sum, first: usize| {
                    let columns = first..d.min(first + AT_ONCE);
                    truncated(columns.map(|c| three(q[c], key_at(&keys, d, i, c))).fold(sum, |sum, v| sum + v))
                };
                *p = T::of((0..d).step_by(AT_ONCE).fold(0.0, step)) * scale(d);
            }
            let total = weights(p);
            p.iter_mut().for_each(|p| *p = operands.read(*p));
            out.fill(T::ZERO);
            for (p, v) in p.chunks(TILE).zip(values.chunks(TILE * d)) {
                let mut tile = vec![0f64; d];
                for (p, v) in p.chunks(AT_ONCE).zip(v.chunks(AT_ONCE * d)) {
                    for (&p, v) in p.iter().zip(v.chunks(d)) {
                        let p = split(p);
                        tile.iter_mut().zip(v).for_each(|(sum, &v)| *sum += three(p, v));
                    }
                    tile.iter_mut().for_each(|sum| *sum = truncated(*sum));
                }
                out.iter_mut().zip(tile).for_each(|(o, sum)| *o += T::of(sum));
            }
            if total != T::ZERO {
                out.iter_mut().for_each(|o| *o = *o / total);
            }
        }
    }
}

/// Two TF32 numbers whose sum is close to this number: the upper half and the lower half.
#[inline(always)]
fn split<T: Real>(x: T) -> (f64, f64) {
    let high = tf32(x.to_f32());
    (f64::from(high), f64::from(tf32((x - T::of_f32(high)).to_f32())))
}

/// A product of two split numbers, without lower times lower.
#[inline(always)]
fn three(a: (f64, f64), b: (f64, f64)) -> f64 {
    a.1 * b.0 + a.0 * b.1 + a.0 * b.0
}

/// The f32 number next to x towards zero, which a tensor core keeps of a sum. Spec: R10.7
#[inline(always)]
pub fn truncated(x: f64) -> f64 {
    let near = x as f32;
    let beyond = near.is_finite() && f64::from(near).abs() > x.abs();
    f64::from(if beyond { f32::from_bits(near.to_bits() - 1) } else { near })
}
