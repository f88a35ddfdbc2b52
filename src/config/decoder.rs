//! The language model's configuration: a `text_config` or `llm_config` of one of the kinds in [`super::defaults`].
//!
//! Source: transformers 5.17, `models/{qwen2,qwen3,llama,mistral}/configuration_*.py`; InternLM2's and Phi-3's own
//! `configuration_*.py`.

use super::activation::Activation;
use super::defaults::{Biases, Defaults, Windows};
use super::json::{Scope, kind};
use super::projections::Projections;
use super::rope::{LongRope, rope};
use crate::error::{Error, Result, ensure};
use serde_json::Value;

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
    /// Number of positions that the model was trained for. Longer prompts are refused, unless `ntk` scales their
    /// angles.
    pub max_positions: usize,
    /// The MLP's activation.
    pub activation: Activation,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// The storage of the projections to queries, keys and values.
    pub projections: Projections,
    /// Whether the projections to queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the output projection of the attention has a bias.
    pub out_bias: bool,
    /// Whether every head of the queries and of the keys has an RMS norm before the rotation. Spec: E6.14
    pub qk_norm: bool,
    /// The factor of dynamic NTK scaling, which applies to sequences longer than `max_positions`. Spec: E6.12
    pub ntk: Option<f64>,
    /// The factors and the scale of long rope. Spec: E6.15
    pub long_rope: Option<LongRope>,
    /// M-RoPE: the number of frequencies in each section. The sections belong to time, height, width, time, … in this
    /// order; the numbers add up to d_h/2. Spec: E6.10
    pub mrope: Option<Vec<usize>>,
    /// Whether the frequencies of the sections are interleaved: time, height, width, time, … one by one. Spec: E6.17
    pub interleaved: bool,
}

impl DecoderConfig {
    /// Reads the object at `key`, which must be of one of these kinds. If the object is absent or has no `model_type`,
    /// it is of the first kind.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read); an object of another kind.
    pub(crate) fn one_of(scope: &Scope<'_>, key: &str, kinds: &[&Defaults]) -> Result<DecoderConfig> {
        let inner = scope.inner(key)?;
        let names: Vec<&str> = kinds.iter().flat_map(|kind| kind.model_types.iter().copied()).collect();
        let found = inner.model_type(names[0], &names)?;
        let kind = kinds.iter().find(|kind| kind.model_types.contains(&found));
        DecoderConfig::read(&inner, kind.unwrap_or_else(|| unreachable!("T6.2: {found} is among the kinds")))
    }

    /// Reads a `text_config`. Absent fields take the family's defaults. `tied` takes its value from the `text_config`
    /// alone.
    ///
    /// # Errors
    /// A field has the wrong type or size, or asks for something that is not supported (scaled rotary frequencies,
    /// sliding windows).
    pub(crate) fn read(scope: &Scope<'_>, default: &Defaults) -> Result<DecoderConfig> {
        scope.model_type(default.model_types[0], default.model_types)?;
        let heads = scope.heads("num_attention_heads", default.heads)?;
        let kv_heads = match scope.get("num_key_value_heads") {
            Some(Value::Null) => heads,
            _ => scope.heads("num_key_value_heads", default.kv_heads.unwrap_or(heads))?,
        };
        let hidden = scope.size("hidden_size", default.hidden, (1, 1 << 20))?;
        ensure!(
            heads % kv_heads == 0,
            scope.at("num_key_value_heads"),
            format!("a divisor of num_attention_heads {heads}"),
            kv_heads
        );
        // In kinds whose KV heads may be left out, `null` counts as absent. InternLM2 has no `head_dim` field.
        let explicit = match scope.get("head_dim") {
            None => default.head_dim.is_some(),
            Some(Value::Null) => default.kv_heads.is_some(),
            Some(_) => default.projections == Projections::Apart,
        };
        ensure!(
            explicit || hidden % heads == 0,
            scope.at("num_attention_heads"),
            format!("a divisor of hidden_size {hidden}"),
            heads
        );
        let head_dim = if explicit {
            scope.size("head_dim", default.head_dim.unwrap_or(0), (1, 1 << 16))?
        } else {
            hidden / heads
        };
        let at = scope.at(if explicit { "head_dim" } else { "num_attention_heads" });
        ensure!(head_dim % 2 == 0, at, "an even head size (rotary positions turn pairs)", head_dim);
        let layers = scope.size("num_hidden_layers", default.layers, (1, 1024))?;
        let max_positions = scope.size("max_position_embeddings", default.max_positions, (1, 1 << 30))?;
        match default.windows {
            Windows::None => {}
            Windows::InLayersFrom(first) => full_attention(scope, layers, first, default.mrope.is_some())?,
            Windows::InAll(width) => wide_window(scope, width, max_positions)?,
        }
        // In transformers, the kind with M-RoPE ignores `head_dim` and divides the width by the number of heads.
        // Another `head_dim` is therefore refused.
        ensure!(
            default.mrope.is_none() || default.head_dim.is_some() || head_dim * heads == hidden,
            scope.at("head_dim"),
            format!("hidden_size / num_attention_heads, {}", hidden / heads),
            head_dim
        );
        let rope = rope(scope, default, head_dim, max_positions)?;
        let (qkv_bias, out_bias) = match default.biases {
            Biases::Qkv => (true, false),
            Biases::None => (false, false),
            Biases::Told(key, otherwise) => {
                let both = scope.boolean(key, otherwise)?;
                (both, both)
            }
        };
        let mlp_bias = scope.boolean("mlp_bias", false)?;
        ensure!(!mlp_bias, scope.at("mlp_bias"), "false (no biases in the MLP)", mlp_bias);
        Ok(DecoderConfig {
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            intermediate: scope.size("intermediate_size", default.intermediate, (1, 1 << 22))?,
            vocab: scope.size("vocab_size", default.vocab, (1, 1 << 22))?,
            norm_eps: scope.number(
                "rms_norm_eps",
                default.norm_eps,
                |x| (0.0..=1.0).contains(&x),
                "a number from 0 to 1",
            )?,
            rope_theta: rope.theta,
            max_positions,
            activation: Activation::read(scope, "hidden_act", Activation::Silu)?,
            tied: scope.boolean("tie_word_embeddings", false)?,
            projections: default.projections,
            qkv_bias,
            out_bias,
            qk_norm: default.qk_norm,
            ntk: rope.ntk,
            long_rope: rope.long,
            mrope: rope.mrope,
            interleaved: default.interleaved,
        })
    }
}

impl DecoderConfig {
    /// The maximum number of rows of a prompt.
    pub fn longest(&self) -> usize {
        if self.ntk.is_some() { usize::MAX } else { self.max_positions }
    }

    /// The index of the row's position that each frequency uses: [d_h/2]. The sections of M-RoPE use time (0), height
    /// (1) and width (2), in turn. Without M-RoPE, a row has one position and all indices are 0. Spec: E6.10, E6.17
    pub fn axes(&self) -> Vec<usize> {
        let whole = [self.head_dim / 2];
        let sections = self.mrope.as_deref().unwrap_or(&whole);
        if self.interleaved {
            let axis = |i: usize| if i < 3 * sections.get(i % 3).copied().unwrap_or(0) { i % 3 } else { 0 };
            return (0..self.head_dim / 2).map(axis).collect();
        }
        sections.iter().enumerate().flat_map(|(i, &section)| std::iter::repeat_n(i % 3, section)).collect()
    }
}

/// Fails if a layer attends to a sliding window instead of the whole prompt.
/// `lax`: `null` counts as false.
fn full_attention(scope: &Scope<'_>, layers: usize, window_layers: usize, lax: bool) -> Result<()> {
    const ALL: &str = "full attention in every layer (sliding windows are not supported)";
    match scope.get("layer_types") {
        None | Some(Value::Null) => {
            // transformers 5.17: Qwen2's configuration checks the type. The configuration with M-RoPE does not check
            // it, and null counts as false.
            let null = lax && matches!(scope.get("use_sliding_window"), Some(Value::Null));
            let windowed = !null
                && scope.boolean("use_sliding_window", false)?
                && !matches!(scope.get("sliding_window"), Some(Value::Null))
                && scope.size("max_window_layers", window_layers, (0, usize::MAX))? < layers;
            ensure!(!windowed, scope.at("use_sliding_window"), ALL, "true")
        }
        Some(Value::Array(types)) => {
            ensure!(types.len() >= layers, scope.at("layer_types"), format!("a list of {layers}"), types.len());
            for (i, value) in types.iter().enumerate() {
                ensure!(value == "full_attention", scope.at(&format!("layer_types[{i}]")), ALL, kind(value));
            }
        }
        Some(other) => return Err(Error::new(scope.at("layer_types"), format!("a list of {layers}"), kind(other))),
    }
    Ok(())
}

/// Fails if the sliding window of all layers is narrower than the longest prompt. `null` means no window.
fn wide_window(scope: &Scope<'_>, default: Option<usize>, max_positions: usize) -> Result<()> {
    let width = match (scope.get("sliding_window"), default) {
        (Some(Value::Null), _) | (None, None) => return Ok(()),
        (_, default) => scope.size("sliding_window", default.unwrap_or(0), (1, usize::MAX))?,
    };
    let want = format!("null, or at least max_position_embeddings {max_positions} (sliding windows are not supported)");
    ensure!(width >= max_positions, scope.at("sliding_window"), want, width);
    Ok(())
}
