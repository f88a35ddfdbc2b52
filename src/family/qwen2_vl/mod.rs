//! Qwen2-VL: a tower over patches of images of any size, a merger of patches, and Qwen2 with M-RoPE as the decoder.
//! Its `config.json` is either flat, as on the hub (transformers 4.x), or has a `text_config` (5.x).

mod encoder;

pub use encoder::{PARTS, Qwen2VlEncoder};

use super::Encoder;
use super::definition::{Entry, Shape};
use super::patch_model::{self, Own, PatchModel, TEXT};
use super::patch_reader::Films;
use crate::config::Activation;
use crate::config::defaults::Defaults;
use crate::config::json::Scope;
use crate::config::patch_vit::PatchVitForm;
use crate::error::Result;
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

/// The whole model's configuration. Spec: T5.3, T5.4
pub type Qwen2VlConfig = PatchModel<Qwen2Vl>;

/// Qwen2-VL has no fields of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Qwen2Vl;

pub(super) const ENTRY: Entry = Entry {
    title: "Qwen2-VL",
    videos: true,
    kinds: &[("qwen2_vl", |_, scope| Ok(Arc::new(read(scope)?)))],
    shapes: &[
        Shape::new("qwen2-vl-2b", [1536, 8960, 28, 12, 2], 151_936, true, of_shape),
        Shape::new("qwen2-vl-7b", [3584, 18_944, 28, 28, 4], 152_064, false, of_shape),
    ],
    toy: r#"{"model_type": "qwen2_vl", "text_config": {"model_type": "qwen2_vl_text", "rope_parameters": {"mrope_section": [1, 2, 1]}, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"embed_dim": 16, "num_heads": 2, "mlp_ratio": 2, "depth": 2, "hidden_size": 32, "patch_size": 4}, "image_token_id": 60}"#,
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    patch_model::of_shape("qwen2_vl", shape, vocab, json!({"hidden_size": shape.sizes[0]}))
}

/// Spec: T5.3; the hub's files and transformers 4 use the second model type.
const VISION: PatchVitForm = PatchVitForm {
    model_types: ["qwen2_vl_vision", "qwen2_vl"],
    hidden: ("embed_dim", 1280),
    out: "hidden_size",
    layers: 32,
    mlp: ("mlp_ratio", 4, true),
    patch: 14,
    activation: Activation::QuickGelu,
};

fn read(scope: &Scope<'_>) -> Result<Qwen2VlConfig> {
    let inner = scope.object("text_config")?;
    let defaults = Defaults { model_types: &["qwen2_vl_text", "qwen2_vl"], ..TEXT };
    PatchModel::read(scope, (inner.as_ref().unwrap_or(scope), &defaults), &VISION, |_, _| Ok(Qwen2Vl))
}

impl Own for Qwen2Vl {
    const NAME: &'static str = "qwen2_vl";
    const FILMS: Films = Films::Frames;

    fn encoder(model: &Qwen2VlConfig, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Qwen2VlEncoder::load(names, &model.vision, model.text.hidden)?))
    }
}
