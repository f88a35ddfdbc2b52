//! A norm with its weights: a layer norm or an RMS norm.

use crate::config::NormKind;
use crate::error::Result;
use crate::num::Real;
use crate::pass::Pass;
use crate::weights::Names;
use ndarray::{Array2, ArrayView2};

/// A norm over rows of width d. Spec: E3.10, E3.11
#[derive(Debug, Clone)]
pub struct Norm {
    /// w: \[d\].
    pub weight: Vec<f32>,
    /// b: \[d\]; an RMS norm has none.
    pub bias: Option<Vec<f32>>,
    /// ε, added under the square root.
    pub eps: f64,
}

impl Norm {
    /// Loads a norm of this kind: `name.weight`, \[d\], and for a layer norm also `name.bias`, \[d\].
    ///
    /// # Errors
    /// The errors of [`Names::vector`].
    pub fn load(names: &Names<'_>, name: &str, kind: NormKind, d: usize, eps: f64) -> Result<Norm> {
        let vector = |part: &str| names.vector(&format!("{name}.{part}"), d);
        let bias = match kind {
            NormKind::Layer => Some(vector("bias")?),
            NormKind::Rms => None,
        };
        Ok(Norm { weight: vector("weight")?, bias, eps })
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        4 * (self.weight.len() + self.bias.as_ref().map_or(0, Vec::len))
    }

    /// x: [n, d] → [n, d], stored.
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        pass.norm(x, &self.weight, self.bias.as_deref(), self.eps)
    }

    /// Norms every head of every row. x: [n, heads · width of the norm] → the same shape, stored. Spec: E6.14, R6.14
    pub fn each_head<T: Real>(&self, pass: &Pass<'_, T>, x: Array2<T>) -> Array2<T> {
        let (dim, width, whole) = (x.dim(), self.weight.len(), "E6.14: whole heads");
        let heads = x.into_shape_with_order((dim.0 * dim.1 / width, width)).unwrap_or_else(|_| unreachable!("{whole}"));
        let normed = self.forward(pass, heads.view());
        normed.into_shape_with_order(dim).unwrap_or_else(|_| unreachable!("{whole}"))
    }
}
