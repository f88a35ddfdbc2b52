//! A layer norm with its weights.

use crate::error::Result;
use crate::kernel::layer_norm;
use crate::num::Real;
use crate::pass::Pass;
use crate::weights::Names;
use ndarray::{Array2, ArrayView2};

#[derive(Debug, Clone)]
pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    /// `name.weight` and `name.bias`: \[d\].
    ///
    /// # Errors
    /// As [`Names::vector`].
    pub fn load(names: &Names<'_>, name: &str, d: usize) -> Result<Norm> {
        let vector = |part: &str| names.vector(&format!("{name}.{part}"), d);
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")? })
    }

    /// x: [n, d] → [n, d], left to the caller to store. Spec: E3.11
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>, eps: f64) -> Array2<T> {
        layer_norm(x, &self.weight, &self.bias, pass.epsilon(eps, x))
    }
}
