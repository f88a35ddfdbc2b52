//! Ways: computations that are all honest, but round at different places or add in different orders. The differences of
//! a way are written in `ops.rs`, and nowhere else. Spec: D10.1

use crate::config::Activation;
use crate::kernel::{Operands, Turn};

/// Which of several honest ways a pass computes. The default is the canonical one. Spec: D10.1
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Way {
    /// Attention is one kernel: scores are not stored, the unnormalised weights are, and the mix is divided (R10.3).
    pub fused: bool,
    /// Linear layers add their products one by one, from the first input to the last: the longest chain there is.
    pub in_order: bool,
    /// In bf16, linear layers and attention add 16 pairs of products at a time, as a matrix unit does (E3.16, E3.17).
    pub tiles: bool,
    /// Linear layers and norms add their terms one by one, from the last to the first; attention adds entries one by one.
    pub backwards: bool,
    /// A linear layer's product is stored before its bias is added, where the canonical way stores once (R10.6).
    pub bias_apart: bool,
    /// The patch embedding is stored once, after its bias, where the canonical way stores twice (R10.2).
    pub bias_fused: bool,
    /// RMS norms store their result once; canonical ones store the normalised row as well (R10.8).
    pub norm_once: bool,
    /// Where a rotation is stored (R10.9).
    pub rotation: Rotation,
    /// A gated MLP stores the activated gate only after it is multiplied (R10.10).
    pub gate_once: bool,
    /// Queries are multiplied with the scale, stored in the type, and stored again; scores are not scaled (R10.11).
    pub scaled: bool,
    /// A branch is added to the residual stream in the kernel that computes it, before it is stored (R10.13).
    pub epilogue: bool,
    /// The residual stream is not stored in the type (R10.12).
    pub wide: bool,
    /// What all products read (R10.14).
    pub operands: Operands,
    /// How rotary angles are computed; if none is named, as the container does (E3.12).
    pub turn: Option<Turn>,
    /// A part of the model is wrong on purpose: the direction that a mistake would take (D10.8), or a suspect (D11.9).
    pub aside: Option<Aside>,
}

/// Where a decoder's rotation is stored in the type. Spec: R10.9
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// Cosine and sine, the four products and the two sums.
    #[default]
    Everywhere,
    /// Cosine and sine, and the result.
    Tables,
    /// The result.
    Once,
}

/// Which part of the model is wrong on purpose: by a share of 1/128 in a direction, wholly in a suspect. Spec: D10.8, D11.9
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aside {
    /// The activation is perturbed by a triangular bump around this input value.
    Activation(i8),
    /// ε of norms is larger, by a share of the rows' own size.
    Epsilon,
    /// The result of a branch, which is added to the residual stream, is larger.
    Branch(Branch),
    /// A suspect: every activation is this function.
    Function(Activation),
    /// A suspect: every norm has this ε.
    OtherEpsilon(f64),
    /// A suspect: the result of a branch is left out.
    Without(Branch),
    /// A suspect: convolutions, or all linear layers, read numbers with 10 bits of mantissa, as in TF32.
    Narrow {
        /// Whether all linear layers do, not convolutions alone.
        all: bool,
    },
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
