//! One task of attention: some rows of queries over the entries of one KV head. Spec: E3.5

use super::outer::{add_mix, fill_scores};
use super::stores::{Stores, scale, tf32};
use crate::kernel::cached::{HeadView, key_at};
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::Registers;
use crate::kernel::softmax::weights;
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
        let native = self.stores.grid == Grid::Native;
        if native && self.sums.is_some() {
            (self.stores.fused, self.stores.split) = (false, false);
        }
        let most = self.seen.iter().fold(0, |m, &s| m.max(s));
        let stride = most.next_multiple_of(LANES);
        let mut scores = Scratch::new(self.q.len() * stride);
        let scores = scores.get_mut();
        if native && self.stores.split {
            return self.split(scores, stride);
        }
        let scale = scale::<T>(self.q[0].len());
        let mut scaled = Vec::new();
        let mut q = self.q;
        if native && self.stores.fused {
            scaled.extend(q.iter().flat_map(|q| q.iter().map(|&q| q * scale)));
            q = scaled.chunks_exact(q[0].len()).collect();
        }
        let at_once = self.stores.at_once(scale);
        fill_scores::<T, S, V>(&q, self.head.keys, at_once, scores, stride);
        let mut totals = vec![T::ZERO; q.len()];
        for (r, total) in totals.iter_mut().enumerate() {
            *total = self.stores.weights(&mut scores[r * stride..][..self.seen[r]], scale);
        }
        add_mix::<T, S, V>(scores, stride, &self.seen, self.head.values, &mut self.outs);
        for (r, out) in self.outs.iter_mut().enumerate() {
            let p = &mut scores[r * stride..][..self.seen[r]];
            self.stores.finish(p, totals[r], out, self.sums.as_deref_mut());
        }
    }
}

impl<T: Registers, S: CacheElement<T>> Rows<'_, T, S> {
    /// The same with sums from the last product to the first; each product is the sum of three TF32 products. Only the
    /// measurement of noise uses it. Spec: R10.7
    fn split(self, scores: &mut [T], stride: usize) {
        let d = self.q[0].len();
        let halves = |x: &[T]| x.iter().map(|&x| split(x)).collect::<Vec<_>>();
        let kept = |x: &[S]| x.iter().map(|&x| split(x.widen())).collect::<Vec<_>>();
        let (keys, values) = (kept(self.head.keys), kept(self.head.values));
        for (r, out) in self.outs.into_iter().enumerate() {
            let (q, p) = (halves(self.q[r]), &mut scores[r * stride..][..self.seen[r]]);
            for (i, p) in p.iter_mut().enumerate() {
                *p = (0..d).rev().fold(T::ZERO, |sum, c| sum + three(q[c], key_at(&keys, d, i, c))) * scale(d);
            }
            let total = weights(p);
            out.fill(T::ZERO);
            for (&p, v) in p.iter().zip(values.chunks(d)).rev() {
                let p = split(p);
                out.iter_mut().zip(v).for_each(|(o, &v)| *o += three(p, v));
            }
            if total != T::ZERO {
                out.iter_mut().for_each(|o| *o = *o / total);
            }
        }
    }
}

/// Two TF32 numbers whose sum is close to this number: the upper half and the lower half.
fn split<T: Real>(x: T) -> (T, T) {
    let high = T::of_f32(tf32(x.to_f32()));
    (high, T::of_f32(tf32((x - high).to_f32())))
}

/// A product of two split numbers, without lower times lower. If upper times upper overflows, the other products are
/// left out: they may have the other sign, and ∞ − ∞ is NaN.
#[inline(always)]
fn three<T: Real>(a: (T, T), b: (T, T)) -> T {
    let upper = a.0 * b.0;
    if upper.is_finite() { a.1 * b.0 + a.0 * b.1 + upper } else { upper }
}
