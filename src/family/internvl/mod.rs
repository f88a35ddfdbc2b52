//! InternVL2, 2.5, 3 and 3.5, in their own form and in transformers': InternViT over tiles, pixel shuffle, a decoder.

mod config;
mod conversations;
mod encoder;
pub mod names;
mod reader;

pub use config::InternVlConfig;
pub use conversations::{CONVERSATIONS, conversation};
pub use encoder::projector;
pub use reader::InternVlReader;

use super::definition::{Entry, Shape};
use super::{Encoder, Family, Outline, Profile, Reader, Tower, shape};
use crate::config::{InternVitConfig, Projections, added};
use crate::error::Result;
use crate::files::Files;
use crate::input::conversation::Conversation;
use crate::input::{Packing, PixelLayout, Tiling};
use crate::vision::InternVit;
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "InternVL",
    videos: true,
    kinds: &[
        ("internvl_chat", |files, scope| Ok(Arc::new(InternVlConfig::own(files, scope)?))),
        ("internvl", |files, scope| Ok(Arc::new(InternVlConfig::transformers(files, scope)?))),
    ],
    shapes: &[
        Shape::new("internvl2-1b", [896, 4864, 24, 14, 2], 151_655, false, |s, v| of_shape("qwen2", s, v)),
        Shape::new("internvl3-1b", [896, 4864, 24, 14, 2], 151_674, false, |s, v| of_shape("qwen2", s, v)),
        Shape::new("internvl3-8b", [3584, 18_944, 28, 28, 4], 151_674, false, |s, v| of_shape("qwen2", s, v)),
        // InternLM2 computes the same function as Llama, but stores its three projections in one matrix.
        Shape::new("internvl2-8b", [4096, 14_336, 32, 32, 8], 92_553, false, |s, vocab| of_shape("llama", s, vocab)),
    ],
    toy: r#"{"model_type": "internvl", "text_config": {"model_type": "qwen3", "head_dim": 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2, "image_size": [16, 16], "patch_size": [4, 4]}, "image_seq_length": 4, "image_token_id": 60}"#,
};

/// A `config.json` in transformers' form.
fn of_shape(text: &str, shape: &Shape, vocab: usize) -> Value {
    json!({
        "model_type": "internvl", "text_config": shape.text(text, vocab), "tie_word_embeddings": shape.tied,
        "image_token_id": shape::image_token(vocab), "vision_config": {"attention_bias": true},
    })
}

impl Family for InternVlConfig {
    fn profile(&self) -> Profile<'_> {
        let InternVitConfig { layers, hidden, heads, intermediate, patch, image, .. } = self.vision;
        Profile {
            name: if self.template.is_some() { "internvl_chat" } else { "internvl" },
            text: &self.text,
            tower: Tower { layers, used: self.feature_layer, hidden, heads, intermediate, patch, class: true },
            image_token: self.image_token,
            video_token: None,
            names: match (&self.template, self.text.projections) {
                (None, _) => names::transformers,
                (Some(_), Projections::Apart | Projections::Stacked) => names::own,
                (Some(_), Projections::Grouped) => names::own_internlm2,
            },
            pixels: PixelLayout::Tiles(image),
        }
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(InternVlReader::load(files, self)?))
    }

    fn packing(&self, image: &Outline) -> Result<Packing> {
        let tiling = self.tiling();
        let tiles = tiling.tiles.filter(|_| image.frames.is_none()); // a frame is one tile
        let tiles = tiles.map(|(few, most)| image.most.map_or((few, most), |most| (few.min(most), most)));
        Tiling { tiles, ..tiling }.packing(image.size)
    }

    fn conversation(&self, files: &Files) -> Result<Option<Conversation>> {
        let at = format!("{}: template", files.label("config.json"));
        self.template.as_deref().map(|name| conversation(name, &at)).transpose()
    }

    fn end(&self, files: &Files) -> Result<Option<u32>> {
        let Some(name) = &self.template else { return Ok(None) };
        added::id(files, conversations::end(name))
    }

    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(encoder::InternVl {
            merge: self.merge,
            transposed: self.transposed,
            tower: InternVit::load(names, &self.vision, self.feature_layer)?,
            projector: projector(names, self)?,
        }))
    }

    fn vision_words(&self) -> String {
        let (InternVitConfig { norm, image, patch, qk_norm, .. }, m) = (&self.vision, self.merge);
        let normed = if qk_norm.is_some() { ", queries and keys normed" } else { "" };
        format!("{norm:?} norms{normed}, tiles of {image} px, patches of {patch} px, {m} × {m} patches a token")
    }

    fn vision_fields(&self) -> Value {
        json!({
            "image": self.vision.image, "feature_layer": self.feature_layer, "merge": self.merge,
            "qk_norm": self.vision.qk_norm.is_some(), "tiles": self.tiles, "thumbnail": self.thumbnail,
            "template": self.template,
        })
    }
}
