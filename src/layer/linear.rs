//! A linear layer: its weights in place, its bias widened.

use crate::error::Result;
use crate::kernel::{MatrixView, linear, linear_in_order};
use crate::num::Real;
use crate::pass::Pass;
use crate::weights::{Matrix, Names};
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
    /// The layer of `name.weight`, [outputs, inputs], and, where it has a bias, `name.bias`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(names: &Names<'_>, name: &str, outputs: usize, inputs: usize, bias: bool) -> Result<Linear> {
        Ok(Linear {
            weight: names.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: if bias { Some(names.vector(&format!("{name}.bias"), outputs)?) } else { None },
        })
    }

    /// Bytes of weights and bias.
    pub fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.as_ref().map_or(0, |b| 4 * b.len())
    }

    /// x: [n, inputs] → [n, outputs], stored as a GPU stores it: once, after the bias, unless the way
    /// says otherwise (R10.6).
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        if pass.way.bias_apart {
            return self.forward_apart(pass, x);
        }
        pass.store(apply(pass, x, self.weight.view(), self.bias.as_deref()))
    }

    /// The same with the product stored before the bias is added. Spec: R10.2, R10.6
    pub fn forward_apart<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        let mut y = pass.store(apply(pass, x, self.weight.view(), None));
        let Some(b) = &self.bias else { return y };
        y.outer_iter_mut().for_each(|mut y| y.iter_mut().zip(b).for_each(|(y, &b)| *y += T::of_f32(b)));
        pass.store(y)
    }
}

/// y = x · wᵀ + b the way that the pass goes, not stored. Spec: E3.3, D10.1
pub fn apply<T: Real>(pass: &Pass<'_, T>, x: ArrayView2<'_, T>, w: MatrixView<'_>, b: Option<&[f32]>) -> Array2<T> {
    if pass.way.in_order { linear_in_order(x, w, b) } else { linear(x, w, b) }
}
