//! What attention stores: operation by operation as eager programs do, or as one kernel; and an honest way in full width.

use super::attention::{HeadView, Shape, add_mix, fill_scores, weights};
use crate::num::{Grid, LANES, Real};

/// What attention stores in a GPU's type. Spec: R3.5, R10.3
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stores {
    /// The type.
    pub grid: Grid,
    /// As one kernel rather than operation by operation.
    pub fused: bool,
    /// Where nothing is rounded to a type: sums from the last product to the first, products out of three of TF32 (R10.7).
    pub split: bool,
}

impl From<Grid> for Stores {
    /// Eager attention in a type.
    fn from(grid: Grid) -> Self {
        Stores { grid, fused: false, split: false }
    }
}

/// A number to 10 bits after the first, ties away from zero, as tensor cores read f32.
pub fn tf32(x: f32) -> f32 {
    if x.is_finite() { f32::from_bits((x.to_bits() + 0x1000) & !0x1FFF) } else { x }
}

/// A number as the sum of two of TF32, nearly.
fn split<T: Real>(x: T) -> (T, T) {
    let high = T::of_f32(tf32(x.to_f32()));
    (high, T::of_f32(tf32((x - high).to_f32())))
}

/// What weights are divided by: a row masked everywhere has none, and stays zeros (C3.2a).
fn divisor<T: Real>(total: T) -> T {
    if total == T::ZERO { T::ONE } else { total }
}

/// A product without that of the lower halves.
#[inline(always)]
fn three<T: Real>(a: (T, T), b: (T, T)) -> T {
    a.1 * b.0 + a.0 * b.1 + a.0 * b.0
}

impl<T: Real> Shape<T> {
    /// The same by another honest way where nothing is rounded to a type: queries are scaled before the scores, weights
    /// are divided before the mix. Only noise is measured with it. Spec: D10.1
    #[inline(always)]
    pub(super) fn rows_scaled_first(
        &self,
        q: &[&[T]],
        seen: &[usize],
        head: HeadView<'_, T>,
        scores: &mut [T],
        outs: Vec<&mut [T]>,
    ) {
        let stride = scores.len() / q.len();
        let scaled: Vec<Vec<T>> = q.iter().map(|q| q.iter().map(|&q| q * self.scale).collect()).collect();
        let scaled: Vec<&[T]> = scaled.iter().map(Vec::as_slice).collect();
        fill_scores(&scaled, head.keys, self.head_dim, T::ONE, scores, stride);
        for (r, out) in outs.into_iter().enumerate() {
            let p = &mut scores[r * stride..][..seen[r]];
            let total = divisor(weights(p));
            p.iter_mut().for_each(|p| *p = *p / total);
            add_mix(p, head.values, out);
        }
    }

    /// The same with sums from the last product to the first, each product out of three of TF32. Only noise is measured
    /// with it. Spec: R10.7
    pub(super) fn rows_split(
        &self,
        q: &[&[T]],
        seen: &[usize],
        head: HeadView<'_, T>,
        scores: &mut [T],
        outs: Vec<&mut [T]>,
    ) {
        let (stride, d) = (scores.len() / q.len(), self.head_dim);
        let halves = |x: &[T]| x.iter().map(|&x| split(x)).collect::<Vec<_>>();
        let (keys, values) = (halves(head.keys), halves(head.values));
        for (r, out) in outs.into_iter().enumerate() {
            let (q, p) = (halves(q[r]), &mut scores[r * stride..][..seen[r]]);
            for (i, p) in p.iter_mut().enumerate() {
                let key = |c: usize| keys[(i / LANES * d + c) * LANES + i % LANES];
                *p = (0..d).rev().fold(T::ZERO, |sum, c| sum + three(q[c], key(c))) * self.scale;
            }
            let total = weights(p);
            out.fill(T::ZERO);
            for (&p, v) in p.iter().zip(values.chunks(d)).rev() {
                let p = split(p);
                out.iter_mut().zip(v).for_each(|(o, &v)| *o += three(p, v));
            }
            if total > T::ZERO {
                out.iter_mut().for_each(|o| *o = *o / total);
            }
        }
    }

    /// The same where scores and weights are stored in a GPU's type, as eager attention does. Spec: R3.5
    #[inline(always)]
    pub(super) fn rows_rounded(
        &self,
        q: &[&[T]],
        seen: &[usize],
        head: HeadView<'_, T>,
        scores: &mut [T],
        outs: Vec<&mut [T]>,
        mut sums: Option<&mut [T]>,
    ) {
        let (stride, Stores { grid, fused, .. }) = (scores.len() / q.len(), self.stores);
        fill_scores(q, head.keys, self.head_dim, T::ONE, scores, stride);
        for (r, out) in outs.into_iter().enumerate() {
            let p = &mut scores[r * stride..][..seen[r]];
            if fused {
                p.iter_mut().for_each(|s| *s *= self.scale);
            } else {
                p.iter_mut().for_each(|s| *s = grid.round(grid.round(*s) * self.scale));
            }
            let total = divisor(weights(p));
            if fused {
                grid.round_all(p);
                add_mix(p, head.values, out);
                out.iter_mut().for_each(|o| *o = *o / total);
                p.iter_mut().for_each(|p| *p = *p / total);
            } else {
                p.iter_mut().for_each(|p| *p = grid.round(*p / total));
                add_mix(p, head.values, out);
            }
            grid.round_all(out);
            if let Some(sums) = sums.as_deref_mut() {
                sums.iter_mut().zip(p.iter()).for_each(|(s, &p)| *s += p);
            }
        }
    }
}
