//! The attention of a few queries over chosen keys, in a fixed order: q·k adds over d by fused multiply-add, 16 keys
//! side by side, and the softmax adds in the canonical order. No n × n matrix exists at any time.

use crate::kernel::simd::vectorize;
use crate::kernel::{push_key, scale, weights};
use crate::num::{Grid, LANES, Real};
use ndarray::ArrayView2;

/// The keys of one KV head at chosen prompt rows, in blocks. Spec: E8.3, D3.4
pub(super) struct PackedKeys<T> {
    /// The prompt rows of the keys, ascending: [C].
    pub cols: Vec<usize>,
    /// [⌈C/16⌉, d_h, 16]: 16 keys side by side, the last block padded with zeros.
    packed: Vec<T>,
    d: usize,
    /// 1/√d_h.
    scale: T,
    /// The type in which scores and weights are stored.
    grid: Grid,
}

impl<T: Real> PackedKeys<T> {
    /// Packs the keys at `cols`; k: [n, d_h].
    pub fn new(k: ArrayView2<'_, T>, cols: Vec<usize>, grid: Grid) -> Self {
        let d = k.ncols();
        let mut packed = Vec::with_capacity(cols.len().next_multiple_of(LANES) * d);
        for (c, &row) in cols.iter().enumerate() {
            push_key(&mut packed, c, k.row(row).iter().copied());
        }
        PackedKeys { cols, packed, d, scale: scale(d), grid }
    }

    /// Packs all rows of x, [n, d], for products without a scale.
    pub fn unscaled(x: ArrayView2<'_, T>, grid: Grid) -> Self {
        PackedKeys { scale: T::ONE, ..PackedKeys::new(x, (0..x.nrows()).collect(), grid) }
    }

    /// The products of q with the columns. q: \[d\], s: [C].
    pub fn products(&self, q: &[T], s: &mut [T]) {
        vectorize(
            #[inline(always)]
            || self.scores(q, s),
        )
    }

    /// The number of columns that a query at prompt row `row` sees under a causal mask. Spec: A8.3
    pub fn causal(&self, row: usize) -> usize {
        self.cols.partition_point(|&c| c <= row)
    }

    /// p = softmax(q·kᵀ / √d_h) over the first `seen` columns, zero after them. q: \[d_h\], p: [C].
    /// Spec: E8.3, C8.3a, E9.2
    pub fn attend(&self, q: &[T], seen: usize, p: &mut [T]) {
        vectorize(
            #[inline(always)]
            || {
                self.scores(q, p);
                // Softmax (E3.2). A row whose scores are all −∞, an overflow, becomes 0/0 = NaN, which `score` reports.
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
