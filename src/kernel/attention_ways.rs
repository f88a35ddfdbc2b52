//! What attention stores: operation by operation as eager programs do, or as one kernel; and an honest way in full width.

use super::attention::{HeadView, Shape, add_mix, fill_scores, weights};
use crate::num::{Grid, Real};

/// What attention stores in a GPU's type. Spec: R3.5, R10.3
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stores {
    /// The type.
    pub grid: Grid,
    /// As one kernel rather than operation by operation.
    pub fused: bool,
}

impl From<Grid> for Stores {
    /// Eager attention in a type.
    fn from(grid: Grid) -> Self {
        Stores { grid, fused: false }
    }
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
            let total = weights(p);
            p.iter_mut().for_each(|p| *p = *p / total);
            add_mix(p, head.values, out);
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
        let (stride, Stores { grid, fused }) = (scores.len() / q.len(), self.stores);
        fill_scores(q, head.keys, self.head_dim, T::ONE, scores, stride);
        for (r, out) in outs.into_iter().enumerate() {
            let p = &mut scores[r * stride..][..seen[r]];
            if fused {
                p.iter_mut().for_each(|s| *s *= self.scale);
            } else {
                p.iter_mut().for_each(|s| *s = grid.round(grid.round(*s) * self.scale));
            }
            let total = weights(p);
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
