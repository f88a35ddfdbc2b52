//! The defaults of absent fields of a `text_config`, for each kind of decoder. Spec: T6.2
//!
//! If only one family has a kind, the kind's defaults are in that family's folder. Source: transformers 5.17,
//! `models/{qwen2,qwen3,llama,mistral}/configuration_*.py`; InternLM2's and Phi-3's own `configuration_*.py`.

use super::projections::Projections;

/// Whether the attention's projections have biases.
pub(crate) enum Biases {
    /// The projections to queries, keys and values have biases; the output projection has none.
    Qkv,
    /// All projections have biases or none has. The named field decides; the boolean is the field's default.
    Told(&'static str, bool),
    /// No projection has biases.
    None,
}

/// Which layers of a kind may attend to a sliding window. A window that hides a row is refused.
#[derive(Clone, Copy)]
pub(crate) enum Windows {
    /// No layer.
    None,
    /// If `use_sliding_window` says so, the layers from `max_window_layers` on; the number is this field's default.
    InLayersFrom(usize),
    /// Every layer, if `sliding_window` names a width; the number is this field's default.
    InAll(Option<usize>),
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
    /// `None` means `hidden` / `heads`.
    pub head_dim: Option<usize>,
    pub windows: Windows,
    /// Sections of M-RoPE, in the kinds that have M-RoPE.
    pub mrope: Option<[usize; 3]>,
    /// Whether the frequencies of the sections are interleaved.
    pub interleaved: bool,
    /// Whether queries and keys have a norm for each head.
    pub qk_norm: bool,
    /// Whether the kind has long rope (`su`, `longrope`).
    pub long_rope: bool,
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
        head_dim: None,
        windows: Windows::InLayersFrom(28),
        mrope: None,
        interleaved: false,
        qk_norm: false,
        long_rope: false,
        biases: Biases::Qkv,
        projections: Projections::Apart,
    };

    pub const QWEN3: Defaults = Defaults {
        model_types: &["qwen3"],
        head_dim: Some(128),
        qk_norm: true,
        biases: Biases::Told("attention_bias", false),
        ..Defaults::QWEN2
    };

    pub const LLAMA: Defaults = Defaults {
        model_types: &["llama"],
        kv_heads: None,
        intermediate: 11008,
        vocab: 32_000,
        max_positions: 2048,
        windows: Windows::None,
        biases: Biases::Told("attention_bias", false),
        ..Defaults::QWEN2
    };

    pub const MISTRAL: Defaults = Defaults {
        model_types: &["mistral"],
        kv_heads: Some(8),
        intermediate: 14336,
        max_positions: 131_072,
        windows: Windows::InAll(Some(4096)),
        biases: Biases::None,
        ..Defaults::LLAMA
    };

    pub const PHI3: Defaults = Defaults {
        model_types: &["phi3"],
        hidden: 3072,
        intermediate: 8192,
        vocab: 32_064,
        norm_eps: 1e-5,
        max_positions: 4096,
        windows: Windows::InAll(None),
        long_rope: true,
        biases: Biases::None,
        projections: Projections::Stacked,
        ..Defaults::LLAMA
    };

    pub const INTERNLM2: Defaults = Defaults {
        model_types: &["internlm2"],
        vocab: 103_168,
        biases: Biases::Told("bias", true),
        projections: Projections::Grouped,
        ..Defaults::LLAMA
    };
}
