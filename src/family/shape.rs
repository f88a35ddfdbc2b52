//! The shapes of public models, for measurements without the models' weights.

use super::definition::{Shape, Whole};
use serde_json::{Value, json};

impl Shape {
    /// A shape with these fields.
    pub(super) const fn new(name: &'static str, sizes: [usize; 5], vocab: usize, tied: bool, config: Whole) -> Shape {
        Shape { name, sizes, vocab, tied, config }
    }

    /// A `text_config` of this shape with `vocab` token ids.
    pub(super) fn text(&self, model_type: &str, vocab: usize) -> Value {
        let [hidden, mlp, layers, heads, kv_heads] = self.sizes;
        json!({
            "model_type": model_type, "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
            "rope_theta": 1e6, "max_position_embeddings": 131_072,
        })
    }
}

/// The id that stands for a visual row, in a vocabulary that may be cut to `vocab` ids.
pub(super) fn image_token(vocab: usize) -> usize {
    151_646.min(vocab.saturating_sub(1))
}
