//! The defaults of absent fields of a `text_config`, for each kind of decoder. Spec: T6.2
//!
//! If only one family has a kind, the kind's defaults are in that family's folder. Source: transformers 5.17,
//! `models/{qwen2,llama}/configuration_*.py`; InternLM2's own `configuration_internlm2.py`.

use super::projections::Projections;

/// Whether the attention's projections have biases.
pub(crate) enum Biases {
    /// The projections to queries, keys and values have biases; the output projection has none.
    Qkv,
    /// All projections have biases or none has. The named field decides; the boolean is the field's default.
    Told(&'static str, bool),
}

/// The defaults of absent fields of a `text_config`. Spec: T6.2
pub(crate) struct Defaults {
    pub model_types: &'static [&'static str],
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    /// `None` means as many KV heads as query heads.
    pub kv_heads: Option<usize>,
    pub intermediate: usize,
    pub vocab: usize,
    pub norm_eps: f64,
    pub theta: f64,
    pub max_positions: usize,
    /// `max_window_layers`, in kinds that have sliding windows.
    pub window_layers: Option<usize>,
    /// Sections of M-RoPE, in the kind that has M-RoPE.
    pub mrope: Option<[usize; 3]>,
    pub biases: Biases,
    pub projections: Projections,
}

impl Defaults {
    pub const QWEN2: Defaults = Defaults {
        model_types: &["qwen2"],
        hidden: 4096,
        layers: 32,
        heads: 32,
        kv_heads: Some(32),
        intermediate: 22016,
        vocab: 151_936,
        norm_eps: 1e-6,
        theta: 1e4,
        max_positions: 32_768,
        window_layers: Some(28),
        mrope: None,
        biases: Biases::Qkv,
        projections: Projections::Apart,
    };

    pub const LLAMA: Defaults = Defaults {
        model_types: &["llama"],
        kv_heads: None,
        intermediate: 11008,
        vocab: 32_000,
        max_positions: 2048,
        window_layers: None,
        biases: Biases::Told("attention_bias", false),
        ..Defaults::QWEN2
    };

    pub const INTERNLM2: Defaults = Defaults {
        model_types: &["internlm2"],
        vocab: 103_168,
        biases: Biases::Told("bias", true),
        projections: Projections::Grouped,
        ..Defaults::LLAMA
    };
}
