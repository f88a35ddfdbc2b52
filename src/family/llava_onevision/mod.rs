//! LLaVA-OneVision: SigLIP over anyres tiles, a two-layer projector, packing with newline rows, and Qwen2 as the
//! decoder.

mod config;
mod names;
mod reader;

pub use config::LlavaOnevisionConfig;
pub use names::names;
pub use reader::LlavaOnevisionReader;

use super::definition::{Entry, Shape};
use super::tile_encoder::TileEncoder;
use super::{Encoder, Family, Outline, Profile, Reader, Tower, shape};
use crate::config::SiglipConfig;
use crate::error::Result;
use crate::files::Files;
use crate::input::{Packing, PixelLayout};
use crate::weights::Names;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "LLaVA-OneVision",
    videos: true,
    kinds: &[("llava_onevision", |_, scope| Ok(Arc::new(LlavaOnevisionConfig::read(scope)?)))],
    shapes: &[
        Shape::new("llava-ov-0.5b", [896, 4864, 24, 14, 2], 152_000, true, of_shape),
        Shape::new("llava-ov-7b", [3584, 18_944, 28, 28, 4], 152_128, false, of_shape),
    ],
    toy: r#"{"model_type": "llava_onevision", "text_config": {"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2, "image_size": 16, "patch_size": 4}, "image_grid_pinpoints": [[16, 32], [32, 32]], "image_token_index": 60}"#,
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    json!({
        "model_type": "llava_onevision", "text_config": shape.text("qwen2", vocab), "tie_word_embeddings": shape.tied,
        "image_token_index": shape::image_token(vocab),
        "image_grid_pinpoints": [[384, 384], [384, 768], [768, 384], [768, 768]],
    })
}

impl Family for LlavaOnevisionConfig {
    fn profile(&self) -> Profile<'_> {
        let SiglipConfig { layers, hidden, heads, intermediate, patch, image, class, .. } = self.vision;
        Profile {
            name: "llava_onevision",
            text: &self.text,
            tower: Tower { layers, used: self.parts().used_layers(), hidden, heads, intermediate, patch, class },
            image_token: self.image_token,
            video_token: self.video_token,
            names,
            pixels: PixelLayout::Padded(image),
        }
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(LlavaOnevisionReader::load(files, self)?))
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
        Ok(Box::new(TileEncoder::load(names, self.parts())?))
    }

    fn sums_features(&self) -> bool {
        true
    }

    fn vision_words(&self) -> String {
        let (SiglipConfig { image, patch, .. }, grids, most) = (&self.vision, self.pinpoints.len(), self.max_tiles);
        format!("tiles of {image} px, patches of {patch} px, {grids} grids, anyres_max_{most}")
    }

    fn vision_fields(&self) -> Value {
        json!({
            "image": self.vision.image, "feature_layers": self.feature_layers, "pinpoints": self.pinpoints,
            "max_tiles": self.max_tiles,
        })
    }
}
