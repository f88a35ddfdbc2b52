//! Pixel shuffle, which puts the patches of a square side by side, and the projector behind it.
//! Source: OpenGVLab's `pixel_shuffle` and `mlp1`; transformers' `pixel_shuffle` and `InternVLMultiModalProjector`.

use crate::config::{Activation, NormKind};
use crate::error::Result;
use crate::layer::{Linear, Mlp, Norm};
use crate::num::Real;
use crate::pass::Pass;
use crate::weights::Names;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, s};

/// ε of the projector's layer norm, PyTorch's default.
const EPS: f64 = 1e-5;

/// Makes one row of each square of m × m patches; the class token is dropped.
///
/// features: [tiles, 1 + side², d_v] → [tiles, (side/m)², m² · d_v]; `transposed`: rows go down the columns. Spec: E5.14
pub fn shuffled<T: Real>(features: ArrayView3<'_, T>, m: usize, transposed: bool) -> Array3<T> {
    let (tiles, tokens, d) = features.dim();
    let side = (tokens - 1).isqrt();
    let along = side / m;
    let mut rows = Array3::from_elem((tiles, along * along, m * m * d), T::ZERO);
    for row in 0..along * along {
        let (y, x) = if transposed { (row % along, row / along) } else { (row / along, row % along) };
        for part in 0..m * m {
            let token = 1 + (y * m + part / m) * side + x * m + part % m;
            rows.slice_mut(s![.., row, part * d..(part + 1) * d]).assign(&features.slice(s![.., token, ..]));
        }
    }
    rows
}

/// A layer norm and two linear layers. Spec: E5.15
#[derive(Debug, Clone)]
pub struct ShuffledProjector {
    norm: Norm,
    mlp: Mlp,
}

impl ShuffledProjector {
    /// Takes the projector's weights from a checkpoint; square: m² · d_v, d: the language model's width.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration says.
    pub fn load(names: &Names<'_>, square: usize, d: usize, activation: Activation) -> Result<Self> {
        let linear = |name: &str, inputs| Linear::load(names, &format!("projector.{name}"), d, inputs, true);
        Ok(ShuffledProjector {
            norm: Norm::load(names, "projector.norm", NormKind::Layer, square, EPS)?,
            mlp: Mlp { fc1: linear("fc1", square)?, activation, fc2: linear("fc2", d)? },
        })
    }

    /// features: [rows, m² · d_v] → [rows, d]. Spec: E5.15, R5.15
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, features: ArrayView2<'_, T>) -> Array2<T> {
        let h = self.norm.forward(pass, features);
        self.mlp.forward(pass, h.view())
    }
}
