//! The two MLPs: plain (vision towers, projectors) and gated (decoders).

use super::Linear;
use crate::config::Activation;
use crate::kernel::{Aside, activate, recycle};
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, ArrayView2, Zip};

/// fc2(f(fc1(x))). Spec: E5.4
#[derive(Debug, Clone)]
pub struct Mlp {
    /// The first layer.
    pub fc1: Linear,
    /// f.
    pub activation: Activation,
    /// The second layer.
    pub fc2: Linear,
    /// Whether the first layer's product is stored before its bias is added (R10.6).
    pub bias_apart: bool,
}

impl Mlp {
    /// x: [n, d] → [n, outputs of fc2].
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        let hidden = if self.bias_apart { self.fc1.forward_apart(pass, x) } else { self.fc1.forward(pass, x) };
        let hidden = activated(pass, hidden, self.activation);
        let hidden = pass.store(hidden);
        let y = self.fc2.forward(pass, hidden.view());
        recycle(hidden);
        pass.aside(Aside::Mlp, y)
    }
}

/// down(f(gate(x)) ⊙ up(x)). Spec: E6.6
#[derive(Debug, Clone)]
pub struct GatedMlp {
    /// The gate's layer.
    pub gate: Linear,
    /// The layer beside it.
    pub up: Linear,
    /// The layer back to the residual stream.
    pub down: Linear,
    /// f.
    pub activation: Activation,
}

impl GatedMlp {
    /// x: [n, d] → [n, d].
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        let mut product = pass.store(activated(pass, self.gate.forward(pass, x), self.activation));
        let up = self.up.forward(pass, x);
        Zip::from(&mut product).and(&up).par_for_each(|g, &u| *g *= u);
        recycle(up);
        let product = pass.store(product);
        let y = self.down.forward(pass, product.view());
        recycle(product);
        pass.aside(Aside::Mlp, y)
    }
}

/// f(x), not stored; where the way says so, off by a share of a hat over numbers near some knot. Spec: D10.8
fn activated<T: Real>(pass: &Pass<'_, T>, mut x: Array2<T>, f: Activation) -> Array2<T> {
    let Some(Aside::Activation(knot)) = pass.way.aside else {
        activate(&mut x, f);
        return x;
    };
    let knot = T::of(f64::from(knot));
    let hat = x.mapv(|x| (T::ONE - (x - knot).max(knot - x)).max(T::ZERO));
    activate(&mut x, f);
    x.scaled_add(T::of(Aside::SHARE), &hat);
    x
}
