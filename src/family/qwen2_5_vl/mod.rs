//! Qwen2.5-VL: a tower over patches of images of any size whose rows attend within windows, a merger, and Qwen2 with M-RoPE
//! as the decoder. Its `config.json` is either flat, as on the hub (transformers 4.x), or has a `text_config` (5.x).

mod tower;

pub use tower::Qwen25VlTower;

use super::Encoder;
use super::definition::{Entry, Shape};
use super::patch_model::{self, Own, PatchModel, TEXT};
use super::patch_reader::Films;
use crate::config::defaults::Defaults;
use crate::config::json::Scope;
use crate::config::patch_vit::PatchVitForm;
use crate::config::{Activation, PatchVitConfig, features};
use crate::error::{Result, ensure};
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

/// The whole model's configuration. Spec: T5.4, T5.9
pub type Qwen25VlConfig = PatchModel<Qwen25Vl>;

/// The fields that only Qwen2.5-VL has. Spec: T5.9
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen25Vl {
    /// The side of a window in squares.
    pub window: usize,
    /// The layers whose rows attend to their whole frame. In the other layers, they attend to their window.
    pub full: Vec<usize>,
    /// How many positions a second of a video has. Spec: E4.30
    pub tokens_per_second: usize,
}

pub(super) const ENTRY: Entry = Entry {
    title: "Qwen2.5-VL",
    videos: true,
    kinds: &[("qwen2_5_vl", |_, scope| Ok(Arc::new(read(scope)?)))],
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

/// Spec: T5.9; the hub's files and transformers 4 use the second model type.
const VISION: PatchVitForm = PatchVitForm {
    model_types: ["qwen2_5_vl_vision", "qwen2_5_vl"],
    hidden: ("hidden_size", 3584),
    out: "out_hidden_size",
    layers: 32,
    mlp: ("intermediate_size", 3420, false),
    patch: 14,
    activation: Activation::Silu,
};

fn read(scope: &Scope<'_>) -> Result<Qwen25VlConfig> {
    let inner = scope.object("text_config")?;
    let defaults = Defaults { model_types: &["qwen2_5_vl_text", "qwen2_5_vl"], ..TEXT };
    PatchModel::read(scope, (inner.as_ref().unwrap_or(scope), &defaults), &VISION, own)
}

fn own(scope: &Scope<'_>, vision: &PatchVitConfig) -> Result<Qwen25Vl> {
    let pixels = scope.size("window_size", 112, (1, 1 << 20))?;
    let square = vision.merge * vision.patch;
    let want = format!("at least {square}, the side of a square of {m} × {m} patches", m = vision.merge);
    ensure!(pixels >= square, scope.at("window_size"), want, pixels);
    Ok(Qwen25Vl {
        window: pixels / vision.merge / vision.patch,
        full: features::layers(scope, "fullatt_block_indexes", &[7, 15, 23, 31])?,
        tokens_per_second: scope.size("tokens_per_second", 4, (1, 1 << 20))?,
    })
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
