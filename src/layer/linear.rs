//! A linear layer: its weights in place, its bias widened.

use crate::kernel::linear;
use crate::num::Real;
use crate::pass::Pass;
use crate::weights::Matrix;
use ndarray::{Array2, ArrayView2};

/// y = x · wᵀ + b, stored; the weights as they lie. Spec: E3.3, R3.3, A6.1
#[derive(Debug, Clone)]
pub struct Linear {
    /// w: [outputs, inputs].
    pub weight: Matrix,
    /// b: \[outputs\].
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// x: [n, inputs] → [n, outputs], stored as a GPU stores it: once, after the bias.
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        pass.store(linear(x, self.weight.view(), self.bias.as_deref()))
    }
}
