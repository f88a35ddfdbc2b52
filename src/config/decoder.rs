//! The language model's configuration: Qwen2's `text_config`.

use super::Activation;

/// Sizes and constants of a decoder. Spec: T6.2
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// d: width of the residual stream.
    pub hidden: usize,
    /// L: number of layers.
    pub layers: usize,
    /// H: number of query heads.
    pub heads: usize,
    /// G: number of KV heads; divides H.
    pub kv_heads: usize,
    /// d_h: size of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// V: number of token ids.
    pub vocab: usize,
    /// ε of the RMS norms.
    pub norm_eps: f64,
    /// θ: base of the rotary frequencies.
    pub rope_theta: f64,
    /// Positions the model was trained for; longer prompts are refused.
    pub max_positions: usize,
    /// The MLP's activation.
    pub activation: Activation,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
}
