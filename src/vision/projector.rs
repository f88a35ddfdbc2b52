//! A projector that turns each square of patches into one row: a norm, over one patch or over the whole square, then an
//! MLP.

use crate::config::{Activation, NormKind};
use crate::error::Result;
use crate::layer::{Linear, Mlp, Norm};
use crate::num::Real;
use crate::pass::Pass;
use crate::weights::Names;
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
    /// Loads a projector from a checkpoint. parts: the names of the norm and of the MLP's two layers; norm: the norm's
    /// kind, its width and its ε; widths: of the MLP's input, of its middle, and of a row of the language model.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from these widths.
    pub fn load(
        names: &Names<'_>,
        parts: [&str; 3],
        norm: (NormKind, usize, f64),
        [inputs, middle, d]: [usize; 3],
        activation: Activation,
    ) -> Result<Projector> {
        let linear = |name, outputs, inputs| Linear::load(names, name, outputs, inputs, true);
        let (kind, width, eps) = norm;
        Ok(Projector {
            norm: Norm::load(names, parts[0], kind, width, eps)?,
            mlp: Mlp { fc1: linear(parts[1], middle, inputs)?, activation, fc2: linear(parts[2], d, middle)? },
        })
    }

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
        self.mlp.forward(pass, h)
    }
}
