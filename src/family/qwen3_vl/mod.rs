//! Qwen3-VL: a tower over patches of images of any size with learned positions, mergers, and Qwen3 with interleaved M-RoPE
//! as the decoder, whose first layers are given features of more tower layers (DeepStack).

mod config;
mod tower;

pub use config::{Qwen3Vl, Qwen3VlConfig};
pub use tower::Qwen3VlTower;

use super::definition::{Entry, Shape};
use super::patch_model::Own;
use super::patch_reader::Films;
use super::{Encoder, shape};
use crate::error::Result;
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "Qwen3-VL",
    videos: true,
    kinds: &[("qwen3_vl", |_, scope| Ok(Arc::new(config::read(scope)?)))],
    shapes: &[
        Shape::new("qwen3-vl-2b", [2048, 6144, 28, 16, 8], 151_936, true, of_shape),
        Shape::new("qwen3-vl-4b", [2560, 9728, 36, 32, 8], 151_936, true, of_shape),
        Shape::new("qwen3-vl-8b", [4096, 12_288, 36, 32, 8], 151_936, false, large),
    ],
    toy: r#"{"model_type": "qwen3_vl", "text_config": {"head_dim": 12, "rope_parameters": {"mrope_section": [2, 2, 2]}, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "depth": 2, "out_hidden_size": 32, "patch_size": 4, "num_position_embeddings": 25, "deepstack_visual_indexes": [0]}, "image_token_id": 60}"#,
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    let tower = json!({
        "hidden_size": 1024, "intermediate_size": 4096, "depth": 24, "deepstack_visual_indexes": [5, 11, 17],
    });
    whole(shape, vocab, tower)
}

fn large(shape: &Shape, vocab: usize) -> Value {
    whole(shape, vocab, json!({}))
}

fn whole(shape: &Shape, vocab: usize, mut tower: Value) -> Value {
    let mut text = shape.text("qwen3_vl_text", vocab);
    text["rope_theta"] = 5e6.into();
    tower["out_hidden_size"] = shape.sizes[0].into();
    json!({
        "model_type": "qwen3_vl", "text_config": text, "vision_config": tower, "tie_word_embeddings": shape.tied,
        "image_token_id": shape::image_token(vocab),
    })
}

impl Own for Qwen3Vl {
    const NAME: &'static str = "qwen3_vl";
    const FILMS: Films = Films::Stamped;

    fn encoder(model: &Qwen3VlConfig, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Qwen3VlTower::load(names, model)?))
    }

    fn deepstack(&self) -> &[usize] {
        &self.deepstack
    }

    fn words(&self) -> String {
        let side = self.positions.isqrt();
        let layers = self.deepstack.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        format!(", {side} × {side} learned positions, DeepStack of layers {layers}")
    }

    fn fields(&self) -> Value {
        json!({"positions": self.positions, "deepstack_layers": self.deepstack})
    }
}
