//! LLaVA-OneVision: SigLIP over anyres tiles, a two-layer projector, packing with newline rows, Qwen2.

mod config;
mod encoder;
mod names;
mod reader;

pub use config::LlavaOnevisionConfig;
pub use encoder::LlavaOnevision;
pub use names::names;
pub use reader::LlavaOnevisionReader;

use super::definition::{Entry, Family, Outline, Shape, Tower};
use super::encoder::Encoder;
use super::reader::Reader;
use super::shape;
use crate::config::DecoderConfig;
use crate::error::Result;
use crate::files::Files;
use crate::input::layout::PixelLayout;
use crate::input::packing::Packing;
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "LLaVA-OneVision",
    videos: true,
    kinds: &[("llava_onevision", |_, scope| Ok(Arc::new(LlavaOnevisionConfig::read(scope)?)))],
    shapes: &[
        Shape { name: "llava-ov-0.5b", sizes: [896, 4864, 24, 14, 2], vocab: 152_000, tied: true, config: of_shape },
        Shape { name: "llava-ov-7b", sizes: [3584, 18_944, 28, 28, 4], vocab: 152_128, tied: false, config: of_shape },
    ],
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    json!({
        "model_type": "llava_onevision", "text_config": shape.text("qwen2", vocab), "tie_word_embeddings": shape.tied,
        "image_token_index": shape::image_token(vocab),
        "image_grid_pinpoints": [[384, 384], [384, 768], [768, 384], [768, 768]],
    })
}

impl Family for LlavaOnevisionConfig {
    fn name(&self) -> &'static str {
        "llava_onevision"
    }

    fn text(&self) -> &DecoderConfig {
        &self.text
    }

    fn tower(&self) -> Tower {
        let (v, layers) = (&self.vision, self.used_layers());
        Tower { layers, hidden: v.hidden, intermediate: v.intermediate, patch: v.patch }
    }

    fn image_token(&self) -> u32 {
        self.image_token
    }

    fn video_token(&self) -> Option<u32> {
        self.video_token
    }

    fn names(&self) -> fn(&str) -> Vec<String> {
        names
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(LlavaOnevisionReader::load(files, self)?))
    }

    fn pixels(&self) -> PixelLayout {
        PixelLayout::Padded(self.vision.image)
    }

    fn packing(&self, image: &Outline) -> Result<Packing> {
        match image.frames {
            Some(frames) => self.anyres().video(frames, image.size),
            None => self.anyres().packing(image.size, image.of == 1),
        }
    }

    fn frames(&self, rows: usize) -> usize {
        self.anyres().frames(rows)
    }

    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(LlavaOnevision::load(names, self)?))
    }

    fn vision_line(&self) -> String {
        let v = &self.vision;
        format!(
            "{} layers ({} used), hidden {}, {} heads, MLP {}, tiles of {} px, patches of {} px, {} grids, anyres_max_{}",
            v.layers,
            self.used_layers(),
            v.hidden,
            v.heads,
            v.intermediate,
            v.image,
            v.patch,
            self.pinpoints.len(),
            self.max_tiles
        )
    }

    fn vision_json(&self) -> Value {
        let v = &self.vision;
        json!({
            "layers": v.layers, "hidden": v.hidden, "heads": v.heads, "intermediate": v.intermediate, "image": v.image,
            "patch": v.patch, "feature_layers": self.feature_layers, "pinpoints": self.pinpoints,
            "max_tiles": self.max_tiles,
        })
    }
}
