//! LLaVA-1.5 and LLaVA-NeXT: CLIP over one square or over anyres tiles, a two-layer projector, and Llama (Vicuna), Mistral
//! or Qwen2 as the decoder.

mod config;
mod names;
mod reader;

pub use config::LlavaConfig;
pub use names::names;
pub use reader::LlavaReader;

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
    title: "LLaVA-1.5, LLaVA-NeXT",
    videos: false,
    kinds: &[
        ("llava", |_, scope| Ok(Arc::new(LlavaConfig::one_tile(scope)?))),
        ("llava_next", |_, scope| Ok(Arc::new(LlavaConfig::tiles(scope)?))),
    ],
    shapes: &[Shape::new("llava-1.5-7b", [4096, 11_008, 32, 32, 32], 32_064, false, of_shape)],
    toy: r#"{"model_type": "llava_next", "text_config": {"model_type": "mistral", "sliding_window": null, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"model_type": "clip_vision_model", "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 3, "image_size": 16, "patch_size": 4}, "image_grid_pinpoints": [[16, 32], [32, 32]], "image_token_index": 60}"#,
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    json!({
        "model_type": "llava", "text_config": shape.text("llama", vocab), "tie_word_embeddings": shape.tied,
        "image_token_index": shape::image_token(vocab).min(32_000),
    })
}

impl Family for LlavaConfig {
    fn profile(&self) -> Profile<'_> {
        let SiglipConfig { layers, hidden, heads, intermediate, patch, image, class, .. } = self.vision;
        let tiles = self.pinpoints.is_some();
        Profile {
            name: if tiles { "llava_next" } else { "llava" },
            text: &self.text,
            tower: Tower { layers, used: self.parts().used_layers(), hidden, heads, intermediate, patch, class },
            image_token: self.image_token,
            video_token: None,
            names,
            pixels: if tiles { PixelLayout::Padded(image) } else { PixelLayout::Tiles(image) },
        }
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(LlavaReader::load(files, self)?))
    }

    fn packing(&self, image: &Outline) -> Result<Packing> {
        match self.anyres() {
            None => self.crop().packing(true, image.size),
            Some(anyres) => anyres.packing(image.size, true),
        }
    }

    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(TileEncoder::load(names, self.parts())?))
    }

    fn sums_features(&self) -> bool {
        true
    }

    fn vision_words(&self) -> String {
        let SiglipConfig { image, patch, .. } = self.vision;
        let grids = self.pinpoints.as_ref().map_or("one tile an image".into(), |p| format!("{} grids", p.len()));
        format!("CLIP, tiles of {image} px, patches of {patch} px, {grids}")
    }

    fn vision_fields(&self) -> Value {
        json!({
            "image": self.vision.image, "feature_layers": self.feature_layers, "pinpoints": self.pinpoints,
        })
    }
}
