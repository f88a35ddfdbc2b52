//! The language model's configuration: Qwen2's `text_config`.
//!
//! Source: transformers 5.17, `models/qwen2/configuration_qwen2.py` and `modeling_rope_utils.py` (where θ is looked for).

use super::Activation;
use super::json::{Scope, kind};
use crate::error::{Error, Result, ensure};
use serde_json::{Map, Value};

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

impl DecoderConfig {
    /// Reads a `text_config`; absent fields take Qwen2's defaults. `tied` is the `text_config`'s own word on the head.
    ///
    /// # Errors
    /// A field of the wrong type or size, or one that asks for what is not supported (scaled rotary frequencies,
    /// sliding windows).
    pub(crate) fn read(scope: &Scope<'_>) -> Result<DecoderConfig> {
        scope.model_type("qwen2", &["qwen2"])?;
        let heads = scope.size("num_attention_heads", 32, (1, 1 << 16))?;
        let kv_heads = match scope.get("num_key_value_heads") {
            Some(Value::Null) => heads,
            _ => scope.size("num_key_value_heads", 32, (1, 1 << 16))?,
        };
        let hidden = scope.size("hidden_size", 4096, (1, 1 << 20))?;
        ensure!(
            heads % kv_heads == 0,
            scope.at("num_key_value_heads"),
            format!("a divisor of num_attention_heads {heads}"),
            kv_heads
        );
        let explicit = scope.get("head_dim").is_some();
        ensure!(
            explicit || hidden % heads == 0,
            scope.at("num_attention_heads"),
            format!("a divisor of hidden_size {hidden}"),
            heads
        );
        let head_dim = scope.size("head_dim", hidden / heads, (1, 1 << 16))?;
        let at = scope.at(if explicit { "head_dim" } else { "num_attention_heads" });
        ensure!(head_dim % 2 == 0, at, "an even head size (rotary positions turn pairs)", head_dim);
        let layers = scope.size("num_hidden_layers", 32, (1, 1024))?;
        full_attention(scope, layers)?;
        Ok(DecoderConfig {
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            intermediate: scope.size("intermediate_size", 22016, (1, 1 << 22))?,
            vocab: scope.size("vocab_size", 151_936, (1, 1 << 24))?,
            norm_eps: scope.number("rms_norm_eps", 1e-6, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")?,
            rope_theta: rope_theta(scope)?,
            max_positions: scope.size("max_position_embeddings", 32_768, (1, 1 << 30))?,
            activation: Activation::read(scope, "hidden_act", Activation::Silu)?,
            tied: scope.boolean("tie_word_embeddings", false)?,
        })
    }
}

/// θ: first in `rope_scaling` (or, if that is empty, `rope_parameters`), then beside them, then 10000.
fn rope_theta(scope: &Scope<'_>) -> Result<f64> {
    let empty = Map::new();
    let filled = |key| Ok(scope.object(key)?.filter(|s: &Scope<'_>| !s.is_empty()).map(|s| (key, s)));
    let (key, rope) = match filled("rope_scaling")? {
        Some(found) => found,
        None => filled("rope_parameters")?.unwrap_or(("rope_parameters", scope.with(&empty))),
    };
    if ["full_attention", "sliding_attention"].iter().any(|k| rope.get(k).is_some()) {
        return Err(Error::new(scope.at(key), "one set of parameters for all layers", "one for each kind of layer"));
    }
    let kinds = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    let found = rope.string(kinds, "default")?;
    ensure!(
        found == "default",
        rope.at(kinds),
        "default (scaled rotary frequencies are not supported)",
        kind(&Value::from(found))
    );
    let holder = if rope.get("rope_theta").is_some() { &rope } else { scope };
    holder.number("rope_theta", 1e4, |x| x > 0.0 && x <= 1e18, "a number above 0 and at most 1e18")
}

/// Fails where a layer attends to a sliding window instead of the whole prompt.
fn full_attention(scope: &Scope<'_>, layers: usize) -> Result<()> {
    const ALL: &str = "full attention in every layer (sliding windows are not supported)";
    match scope.get("layer_types") {
        None | Some(Value::Null) => {
            let windowed = scope.boolean("use_sliding_window", false)?
                && !matches!(scope.get("sliding_window"), Some(Value::Null))
                && scope.size("max_window_layers", 28, (0, usize::MAX))? < layers;
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
