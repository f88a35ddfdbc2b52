//! What attention stores: operation by operation as eager programs do, or as one kernel; and an honest way in full width.

use crate::kernel::softmax::weights;
use crate::num::{Grid, Real};

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

/// 1/√d_h, the scale of the scores.
pub fn scale<T: Real>(head_dim: usize) -> T {
    T::of(1.0 / (head_dim as f64).sqrt())
}

/// A number to 10 bits after the first, ties away from zero, as tensor cores read f32.
pub fn tf32(x: f32) -> f32 {
    if x.is_finite() { f32::from_bits((x.to_bits() + 0x1000) & !0x1FFF) } else { x }
}

/// What weights are divided by: a row masked everywhere has none, and stays zeros (C3.2a).
fn divisor<T: Real>(total: T) -> T {
    if total == T::ZERO { T::ONE } else { total }
}

impl Stores {
    /// What a product is scaled by as it is formed: by 1 where it is stored first, or its query was scaled.
    #[inline(always)]
    pub(super) fn at_once<T: Real>(self, scale: T) -> T {
        if self.grid == Grid::Native && !self.fused { scale } else { T::ONE }
    }

    /// A row of scores becomes weights; returns their sum before they were divided by it, 1 for that of a row without any.
    ///
    /// Where nothing is rounded, another honest way divides them here, its queries having been scaled (D10.1); where a
    /// GPU's type is, eager attention stores the scores, the scaled scores and the divided weights (R3.5).
    #[inline(always)]
    pub(super) fn weights<T: Real>(self, p: &mut [T], scale: T) -> T {
        let grid = self.grid;
        match (grid, self.fused) {
            (Grid::Native, _) => {}
            (_, true) => p.iter_mut().for_each(|s| *s *= scale),
            (_, false) => p.iter_mut().for_each(|s| *s = grid.round(grid.round(*s) * scale)),
        }
        let total = divisor(weights(p));
        match (grid, self.fused) {
            (Grid::Native, false) => {}
            (Grid::Native, true) => p.iter_mut().for_each(|p| *p = *p / total),
            (_, true) => grid.round_all(p),
            (_, false) => p.iter_mut().for_each(|p| *p = grid.round(*p / total)),
        }
        total
    }

    /// What follows the mix of a row: division and store; adds the weights to `sums`. p: what [`weights`](Self::weights)
    /// left.
    #[inline(always)]
    pub(super) fn finish<T: Real>(self, p: &mut [T], total: T, out: &mut [T], sums: Option<&mut [T]>) {
        let native = self.grid == Grid::Native;
        let divide = native != self.fused;
        if divide {
            out.iter_mut().for_each(|o| *o = *o / total);
        }
        self.grid.round_all(out);
        let Some(sums) = sums else { return };
        match divide {
            true => sums.iter_mut().zip(p.iter()).for_each(|(s, &p)| *s += p / total),
            false => sums.iter_mut().zip(p.iter()).for_each(|(s, &p)| *s += p),
        }
    }
}
