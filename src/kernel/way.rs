//! Ways: computations that differ in what they round and in which order they add, and are all honest.

/// Which of several honest ways a pass computes. The default is the canonical one. Spec: D10.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// Attention as one kernel: scores are not stored, the unnormalised weights are, and the mix is divided (R10.3).
    pub fused: bool,
    /// Linear layers add their products one by one, from the first input to the last: the longest chain there is.
    pub in_order: bool,
    /// A linear layer's product is stored before its bias is added, where others store once (R10.6).
    pub bias_apart: bool,
    /// The patch embedding is stored once, after its bias, where others store twice (R10.2).
    pub bias_fused: bool,
    /// What is off on purpose, by a share of 1/128: no honest way, but the direction that a mistake would take (D10.8).
    pub aside: Option<Aside>,
}

/// What a way may be off in on purpose. Spec: D10.8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// The activation is larger where its argument is near this number.
    Activation(i8),
    /// ε of norms is larger, by a share of the rows' own size.
    Epsilon,
    /// The output projection of attention is larger.
    Mix,
    /// The last layer of an MLP is larger.
    Mlp,
}

impl Aside {
    /// How far it is off.
    pub const SHARE: f64 = 1.0 / 128.0;
}
