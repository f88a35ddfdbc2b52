//! The two MLPs: plain (vision towers, projectors) and gated (decoders).

use super::Linear;
use crate::config::Activation;
use crate::kernel::recycle;
use crate::num::Real;
use crate::pass::{Branch, Pass};
use ndarray::Array2;

/// fc2(f(fc1(x))). Spec: E5.4
#[derive(Debug, Clone)]
pub struct Mlp {
    /// The first layer.
    pub fc1: Linear,
    /// f.
    pub activation: Activation,
    /// The second layer.
    pub fc2: Linear,
}

impl Mlp {
    /// x: [n, d] → [n, outputs of fc2].
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: Array2<T>) -> Array2<T> {
        let hidden = pass.activate(self.fc1.forward(pass, x.view()), self.activation);
        recycle(x);
        let y = self.fc2.forward(pass, hidden.view());
        recycle(hidden);
        pass.branch(Branch::Mlp, y)
    }
}

/// down(f(gate(x)) ⊙ up(x)). Spec: E6.6
#[derive(Debug, Clone)]
pub struct GatedMlp {
    /// The gate projection.
    pub gate: Linear,
    /// The up projection, which is multiplied with the activated gate.
    pub up: Linear,
    /// The down projection, back to the residual stream.
    pub down: Linear,
    /// f.
    pub activation: Activation,
}

impl GatedMlp {
    /// x: [n, d] → [n, d].
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: Array2<T>) -> Array2<T> {
        let both = Linear::together([&self.gate, &self.up], pass, x.view());
        recycle(x);
        let [gate, up] = both.try_into().unwrap_or_else(|_| unreachable!("one result for each layer"));
        let product = pass.gate(gate, up, self.activation);
        let y = self.down.forward(pass, product.view());
        recycle(product);
        pass.branch(Branch::Mlp, y)
    }
}

/// An MLP of either kind, for layers of towers.
#[derive(Debug, Clone)]
pub enum AnyMlp {
    /// Spec: E5.4
    Plain(Mlp),
    /// Spec: E6.6
    Gated(GatedMlp),
}

impl From<Mlp> for AnyMlp {
    fn from(mlp: Mlp) -> AnyMlp {
        AnyMlp::Plain(mlp)
    }
}

impl AnyMlp {
    /// x: [n, d] → [n, d].
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: Array2<T>) -> Array2<T> {
        match self {
            AnyMlp::Plain(mlp) => mlp.forward(pass, x),
            AnyMlp::Gated(mlp) => mlp.forward(pass, x),
        }
    }
}
