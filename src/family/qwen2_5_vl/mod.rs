//! Qwen2.5-VL: a tower over patches of images of any size whose rows attend within windows, a merger, and Qwen2 with M-RoPE
//! as the decoder.

mod config;
mod tower;

pub use config::{Qwen25Vl, Qwen25VlConfig};
pub use tower::Qwen25VlTower;

use super::Encoder;
use super::definition::{Entry, Shape};
use super::patch_model::{self, Own};
use super::patch_reader::Films;
use crate::config::PatchVitConfig;
use crate::error::Result;
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "Qwen2.5-VL",
    videos: true,
    kinds: &[("qwen2_5_vl", |_, scope| Ok(Arc::new(config::read(scope)?)))],
    shapes: &[
        Shape::new("qwen2.5-vl-3b", [2048, 11_008, 36, 16, 2], 151_936, true, of_shape),
        Shape::new("qwen2.5-vl-7b", [3584, 18_944, 28, 28, 4], 152_064, false, of_shape),
    ],
    toy: r#"{"model_type": "qwen2_5_vl", "text_config": {"model_type": "qwen2_5_vl_text", "rope_parameters": {"mrope_section": [1, 2, 1]}, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "depth": 2, "out_hidden_size": 32, "patch_size": 4, "window_size": 16, "fullatt_block_indexes": [1]}, "image_token_id": 60}"#,
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    let tower = json!({"hidden_size": 1280, "out_hidden_size": shape.sizes[0]});
    patch_model::of_shape("qwen2_5_vl", shape, vocab, tower)
}

impl Own for Qwen25Vl {
    const NAME: &'static str = "qwen2_5_vl";
    const FILMS: Films = Films::Frames;

    fn encoder(model: &Qwen25VlConfig, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Qwen25VlTower::load(names, model)?))
    }

    fn interval(&self, vision: &PatchVitConfig, fps: f64) -> f32 {
        self.tokens_per_second as f32 * (vision.temporal as f64 / fps) as f32
    }

    fn words(&self) -> String {
        let full = self.full.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        format!(", windows of {w} × {w} tokens but in layers {full}", w = self.window)
    }

    fn fields(&self) -> Value {
        json!({"window": self.window, "full_attention_layers": self.full, "tokens_per_second": self.tokens_per_second})
    }
}
