//! A linear layer. Its weights stay in place in the checkpoint; its bias is widened to f32.

use crate::error::Result;
use crate::num::Real;
use crate::pass::{Pass, Stored, Weights};
use crate::weights::{Matrix, Names};
use ndarray::{Array2, ArrayView2};

/// y = x · wᵀ + b, stored; w keeps the type and layout of the checkpoint. Spec: E3.3, R3.3, A6.1
#[derive(Debug, Clone)]
pub struct Linear {
    /// w: [outputs, inputs].
    pub weight: Matrix,
    /// b: \[outputs\].
    pub bias: Option<Vec<f32>>,
    /// How often the result is stored.
    pub stored: Stored,
}

impl Linear {
    /// Loads `name.weight`, [outputs, inputs], and, if `bias`, also `name.bias`, \[outputs\].
    ///
    /// # Errors
    /// A tensor is missing, or its shape is wrong.
    pub fn load(names: &Names<'_>, name: &str, outputs: usize, inputs: usize, bias: bool) -> Result<Linear> {
        Ok(Linear {
            weight: names.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: if bias { Some(names.vector(&format!("{name}.bias"), outputs)?) } else { None },
            stored: Stored::Once,
        })
    }

    /// The same layer, at the end of a branch of the residual stream.
    pub fn ends_branch(self) -> Linear {
        Linear { stored: Stored::AsBranch, ..self }
    }

    /// Loads several layers that one matrix holds: `name.weight`, [sum of `outputs`, inputs], first the rows of the first
    /// layer, then the rows of the second, and so on. The rows stay in place. Spec: E6.16, C6.16a
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn stacked<const N: usize>(
        names: &Names<'_>,
        name: &str,
        outputs: [usize; N],
        inputs: usize,
    ) -> Result<[Linear; N]> {
        let all = names.matrix(&format!("{name}.weight"), outputs.iter().sum(), inputs)?;
        let mut first = 0;
        Ok(outputs.map(|rows| {
            first += rows;
            Linear { weight: all.slice_rows(first - rows..first), bias: None, stored: Stored::Once }
        }))
    }

    /// Bytes of the weights and the bias.
    pub fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.as_ref().map_or(0, |b| 4 * b.len())
    }

    /// The weights, and how often the result is stored.
    fn weights(&self) -> Weights<'_> {
        Weights { w: self.weight.view(), b: self.bias.as_deref(), stored: self.stored }
    }

    /// x: [n, inputs] → [n, outputs], stored.
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        pass.linear(x, self.weights())
    }

    /// Several layers of the same rows. x: [n, inputs] → [n, outputs] of each layer, stored.
    pub fn together<'a, T: Real>(
        layers: impl IntoIterator<Item = &'a Linear>,
        pass: &Pass<'_, T>,
        x: ArrayView2<'_, T>,
    ) -> Vec<Array2<T>> {
        pass.linears(x, &layers.into_iter().map(Linear::weights).collect::<Vec<_>>())
    }
}
