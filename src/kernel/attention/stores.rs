//! Where attention rounds: after every operation, as eager programs do, or less often, as fused kernels do.

use crate::kernel::operands::Operands;
use crate::kernel::softmax::weights;
use crate::num::{Grid, Real};

/// The type that attention rounds to, and the places where it rounds. Spec: R3.5, R10.3
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stores {
    /// The type, or `Native` for no rounding.
    pub grid: Grid,
    /// Whether attention is one kernel, which stores neither scores nor scaled scores.
    pub fused: bool,
    /// In full width only: attention on a tensor core, with products of three TF32 products and truncated sums (R10.7).
    pub split: bool,
    /// In full width only: weights are divided first, and their products with values are added one by one (D10.1).
    pub chain: bool,
    /// Queries are multiplied with the scale, and both are stored in the type (R10.11).
    pub scaled: bool,
    /// In bf16 only: both products are summed in the order of a matrix unit (E3.17).
    pub tiles: bool,
    /// In full width only: what both products read (R10.14).
    pub operands: Operands,
}

impl From<Grid> for Stores {
    /// Eager attention in this type.
    fn from(grid: Grid) -> Self {
        Stores { grid, ..Stores::default() }
    }
}

/// 1/√d_h, the scale of the scores.
pub fn scale<T: Real>(head_dim: usize) -> T {
    T::of(1.0 / (head_dim as f64).sqrt())
}

/// The number with 10 bits after the leading bit, ties away from zero, as the instruction `cvt.rna.tf32.f32` rounds:
/// kernels that split an f32 in two use it (R10.7). [`Operands::Nearest`] has ties to even, as cuBLAS converts (R10.14).
pub fn tf32(x: f32) -> f32 {
    if x.is_finite() { f32::from_bits((x.to_bits() + 0x1000) & !0x1FFF) } else { x }
}

/// The divisor of a row's weights. A row that is masked everywhere has the sum 0; its weights are divided by 1 and stay
/// 0 (C3.2a).
fn divisor<T: Real>(total: T) -> T {
    if total == T::ZERO { T::ONE } else { total }
}

impl Stores {
    /// Whether queries are scaled before the scores.
    #[inline(always)]
    pub(super) fn scales_queries(self) -> bool {
        self.scaled || (self.grid == Grid::Native && self.fused)
    }

    /// The factor that a score is multiplied by at once: 1 if the unscaled score is stored first, or if the query is
    /// already scaled.
    #[inline(always)]
    pub(super) fn at_once<T: Real>(self, scale: T) -> T {
        if self.grid == Grid::Native && !self.scales_queries() { scale } else { T::ONE }
    }

    /// Turns a row of scores into weights, in place; returns the divisor: the sum of the undivided weights, 1 if that
    /// is 0.
    ///
    /// In a GPU's type, eager attention stores scores, scaled scores and divided weights (R3.5); a fused kernel stores
    /// the undivided weights. In full width nothing is stored; the fused way, whose queries are scaled, divides here
    /// (D10.1).
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
            (Grid::Native, false) if self.chain || self.operands == Operands::Whole => {}
            (Grid::Native, false) => p.iter_mut().for_each(|p| *p = self.operands.read(*p)),
            (Grid::Native, true) => p.iter_mut().for_each(|p| *p = self.operands.read(*p / total)),
            (_, true) => grid.round_all(p),
            (_, false) => p.iter_mut().for_each(|p| *p = grid.round(*p / total)),
        }
        total
    }

    /// Divides and stores the mix of a row, and adds the row's weights to `sums`. p: the result of
    /// [`weights`](Self::weights).
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
