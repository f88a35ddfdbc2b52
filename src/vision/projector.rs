//! A projector that turns each square of patches into one row: a norm, over one patch or over the whole square, then an
//! MLP.

use crate::layer::{Mlp, Norm};
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, ArrayView, Dimension};

/// A norm and an MLP. Spec: E5.10, E5.15
#[derive(Debug, Clone)]
pub struct Projector {
    /// The norm. Its width is d_v if it norms each patch, and m² · d_v if it norms each square of patches.
    pub norm: Norm,
    /// The MLP: it maps m² · d_v numbers to one row of the language model.
    pub mlp: Mlp,
}

impl Projector {
    /// features: n patches of width d_v in any shape; the patches of a square are consecutive → [n / m², d].
    /// Spec: E5.10, E5.15, R5.10, R5.15
    pub fn forward<T: Real, D: Dimension>(&self, pass: &Pass<'_, T>, features: ArrayView<'_, T, D>) -> Array2<T> {
        let whole = "E5.10: whole squares";
        let numbers = features.len();
        let rows = |width: usize| (numbers / width, width);
        let x =
            features.into_shape_with_order(rows(self.norm.weight.len())).unwrap_or_else(|_| unreachable!("{whole}"));
        let h = self.norm.forward(pass, x);
        let h = h.into_shape_with_order(rows(self.mlp.fc1.weight.cols())).unwrap_or_else(|_| unreachable!("{whole}"));
        self.mlp.forward(pass, h.view())
    }
}
