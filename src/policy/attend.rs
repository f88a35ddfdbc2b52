//! Rows of attention of a few queries over chosen keys, in a fixed order of operations: q·k runs over d by fused
//! multiply-add with the keys as lanes, the softmax sum is the canonical one. No n × n matrix ever exists.

use crate::kernel::simd::vectorize;
use crate::kernel::weights;
use crate::num::{Grid, LANES, Real};
use ndarray::ArrayView2;

/// The keys of one KV head at chosen prompt rows, packed for [`Panel::attend`]. Spec: E8.3
pub(super) struct Panel<T> {
    /// The prompt rows of the keys, ascending: [C].
    pub cols: Vec<usize>,
    /// [⌈C/16⌉, d_h, 16]: 16 keys side by side, the last block padded with zeros.
    packed: Vec<T>,
    d: usize,
    /// 1/√d_h.
    scale: T,
    /// What scores and weights are stored in.
    grid: Grid,
}

impl<T: Real> Panel<T> {
    /// Packs the keys at `cols`; k: [n, d_h].
    pub fn new(k: ArrayView2<'_, T>, cols: Vec<usize>, grid: Grid) -> Self {
        let d = k.ncols();
        let mut packed = vec![T::ZERO; cols.len().div_ceil(LANES) * d * LANES];
        for (c, &row) in cols.iter().enumerate() {
            let block = c / LANES * d * LANES;
            for (t, &v) in k.row(row).iter().enumerate() {
                packed[block + t * LANES + c % LANES] = v;
            }
        }
        Panel { cols, packed, d, scale: T::of(1.0 / (d as f64).sqrt()), grid }
    }

    /// How many of the columns a query at prompt row `row` sees under a causal mask. Spec: A8.3
    pub fn causal(&self, row: usize) -> usize {
        self.cols.partition_point(|&c| c <= row)
    }

    /// p = softmax(q·kᵀ / √d_h) over the first `seen` columns, zero after them. q: \[d_h\], p: [C]. Spec: E8.3, C8.3a, E9.2
    pub fn attend(&self, q: &[T], seen: usize, p: &mut [T]) {
        vectorize(
            #[inline(always)]
            || {
                self.scores(q, p);
                // The softmax of E3.2, but for a row of scores that are all −∞, an overflow: its 0/0 is NaN, which is reported.
                let total = weights(&mut p[..seen]);
                p[..seen].iter_mut().for_each(|p| *p = *p / total);
                self.grid.round_all(p);
                p[seen..].fill(T::ZERO);
            },
        )
    }

    #[inline(always)]
    fn scores(&self, q: &[T], s: &mut [T]) {
        for (block, s) in self.packed.chunks_exact((self.d * LANES).max(1)).zip(s.chunks_mut(LANES)) {
            let mut acc = [T::ZERO; LANES];
            for (&q, k) in q.iter().zip(block.chunks_exact(LANES)) {
                for j in 0..LANES {
                    acc[j] = q.mul_add(k[j], acc[j]);
                }
            }
            s.iter_mut().zip(acc).for_each(|(s, a)| *s = self.grid.round(self.grid.round(a) * self.scale));
        }
    }
}
