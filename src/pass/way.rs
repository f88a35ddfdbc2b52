//! Ways: computations that are all honest, but round at different places or add in different orders. The differences of
//! a way are written in `ops.rs`, and nowhere else. Spec: D10.1

/// Which of several honest ways a pass computes. The default is the canonical one. Spec: D10.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// Attention is one kernel: scores are not stored, the unnormalised weights are, and the mix is divided (R10.3).
    pub fused: bool,
    /// Linear layers add their products one by one, from the first input to the last: the longest chain there is.
    pub in_order: bool,
    /// A linear layer's product is stored before its bias is added, where the canonical way stores once (R10.6).
    pub bias_apart: bool,
    /// The patch embedding is stored once, after its bias, where the canonical way stores twice (R10.2).
    pub bias_fused: bool,
    /// A part of the model is wrong on purpose, by a share of 1/128: the direction that a mistake would take (D10.8).
    pub aside: Option<Aside>,
}

/// Which part of the model is wrong on purpose. Spec: D10.8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// The activation is perturbed by a triangular bump around this input value.
    Activation(i8),
    /// ε of norms is larger, by a share of the rows' own size.
    Epsilon,
    /// The result of a branch, which is added to the residual stream, is larger.
    Branch(Branch),
}

/// The two branches of a layer, whose results are added to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// Attention and its output projection.
    Attention,
    /// The MLP.
    Mlp,
}

impl Aside {
    /// The share by which the part is wrong.
    pub const SHARE: f64 = 1.0 / 128.0;
}
