//! InternVL2, in its own form and transformers': InternViT over tiles, pixel shuffle, Qwen2, InternLM2 or Llama.

mod config;
mod conversations;
mod encoder;
pub mod names;
mod reader;

pub use config::InternVlConfig;
pub use conversations::{CONVERSATIONS, conversation};
pub use encoder::{InternVl, projector};
pub use reader::InternVlReader;

use super::definition::{Entry, Family, Outline, Shape, Tower};
use super::encoder::Encoder;
use super::reader::Reader;
use super::shape;
use crate::config::{DecoderConfig, Projections, added};
use crate::error::Result;
use crate::files::Files;
use crate::input::conversation::Conversation;
use crate::input::layout::PixelLayout;
use crate::input::packing::Packing;
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "InternVL2",
    videos: false,
    kinds: &[
        ("internvl_chat", |files, scope| Ok(Arc::new(InternVlConfig::own(files, scope)?))),
        ("internvl", |files, scope| Ok(Arc::new(InternVlConfig::transformers(files, scope)?))),
    ],
    shapes: &[
        Shape {
            name: "internvl2-1b",
            sizes: [896, 4864, 24, 14, 2],
            vocab: 151_655,
            tied: false,
            config: |shape, vocab| of_shape("qwen2", shape, vocab),
        },
        // InternLM2 computes what Llama does, its three projections in one matrix.
        Shape {
            name: "internvl2-8b",
            sizes: [4096, 14_336, 32, 32, 8],
            vocab: 92_553,
            tied: false,
            config: |shape, vocab| of_shape("llama", shape, vocab),
        },
    ],
};

/// In transformers' form.
fn of_shape(text: &str, shape: &Shape, vocab: usize) -> Value {
    json!({
        "model_type": "internvl", "text_config": shape.text(text, vocab), "tie_word_embeddings": shape.tied,
        "image_token_id": shape::image_token(vocab), "vision_config": {"attention_bias": true},
    })
}

impl Family for InternVlConfig {
    fn name(&self) -> &'static str {
        if self.template.is_some() { "internvl_chat" } else { "internvl" }
    }

    fn text(&self) -> &DecoderConfig {
        &self.text
    }

    fn tower(&self) -> Tower {
        let v = &self.vision;
        Tower { layers: self.feature_layer, hidden: v.hidden, intermediate: v.intermediate, patch: v.patch }
    }

    fn image_token(&self) -> u32 {
        self.image_token
    }

    fn names(&self) -> fn(&str) -> Vec<String> {
        match (&self.template, self.text.projections) {
            (None, _) => names::transformers,
            (Some(_), Projections::Apart) => names::own,
            (Some(_), Projections::Grouped) => names::own_internlm2,
        }
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(InternVlReader::load(files, self)?))
    }

    fn pixels(&self) -> PixelLayout {
        PixelLayout::Tiles(self.vision.image)
    }

    fn packing(&self, image: &Outline) -> Result<Packing> {
        self.tiling().packing(image.size)
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
        Ok(Box::new(InternVl::load(names, self)?))
    }

    fn vision_line(&self) -> String {
        let v = &self.vision;
        format!(
            "{} layers ({} used), hidden {}, {} heads, MLP {}, {:?} norms{}, tiles of {} px, patches of {} px, {m} × {m} patches a token",
            v.layers,
            self.feature_layer,
            v.hidden,
            v.heads,
            v.intermediate,
            v.norm,
            if v.qk_norm.is_some() { ", queries and keys normed" } else { "" },
            v.image,
            v.patch,
            m = self.merge
        )
    }

    fn vision_json(&self) -> Value {
        let v = &self.vision;
        json!({
            "layers": v.layers, "hidden": v.hidden, "heads": v.heads, "intermediate": v.intermediate, "image": v.image,
            "patch": v.patch, "feature_layer": self.feature_layer, "merge": self.merge, "qk_norm": v.qk_norm.is_some(),
            "tiles": self.tiles, "thumbnail": self.thumbnail, "template": self.template,
        })
    }
}
