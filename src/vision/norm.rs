//! A norm with its weights: a layer norm, or an RMS norm.

use crate::config::NormKind;
use crate::error::Result;
use crate::kernel::{layer_norm, rms_norm};
use crate::num::Real;
use crate::pass::Pass;
use crate::weights::Names;
use ndarray::{Array2, ArrayView2};

#[derive(Debug, Clone)]
pub(super) struct Norm {
    weight: Vec<f32>,
    /// None in an RMS norm.
    bias: Option<Vec<f32>>,
}

impl Norm {
    /// A layer norm of `name.weight` and `name.bias`: \[d\].
    ///
    /// # Errors
    /// As [`Names::vector`].
    pub fn load(names: &Names<'_>, name: &str, d: usize) -> Result<Norm> {
        Norm::of(NormKind::Layer, names, name, d)
    }

    /// A norm of a kind, of `name.weight` and, in a layer norm, `name.bias`: \[d\].
    ///
    /// # Errors
    /// As [`Names::vector`].
    pub fn of(kind: NormKind, names: &Names<'_>, name: &str, d: usize) -> Result<Norm> {
        let vector = |part: &str| names.vector(&format!("{name}.{part}"), d);
        let bias = match kind {
            NormKind::Layer => Some(vector("bias")?),
            NormKind::Rms => None,
        };
        Ok(Norm { weight: vector("weight")?, bias })
    }

    /// x: [n, d] → [n, d], left to the caller to store. Spec: E3.10, E3.11
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>, eps: f64) -> Array2<T> {
        match &self.bias {
            Some(bias) => layer_norm(x, &self.weight, bias, pass.epsilon(eps, x)),
            None => rms_norm(x, &self.weight, pass.epsilon(eps, x), pass.grid),
        }
    }
}
