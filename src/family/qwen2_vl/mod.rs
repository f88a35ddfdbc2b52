//! Qwen2-VL: a tower over patches of images of any size, a merger of patches, and Qwen2 with M-RoPE as the decoder.

mod config;
mod encoder;
mod tower;

pub use super::patch_reader::PatchReader as Qwen2VlReader;
pub use config::{Qwen2VlConfig, Qwen2VlVisionConfig};
pub use encoder::merger;
pub use tower::Qwen2VlTower;

use super::definition::{Entry, Shape};
use super::{Encoder, Family, Outline, Profile, Reader, Tower, shape};
use crate::error::Result;
use crate::files::Files;
use crate::input::{Packing, PixelLayout, Positions, PreparedImage};
use crate::weights::Names;
use crate::weights::names::visual;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "Qwen2-VL",
    videos: true,
    kinds: &[("qwen2_vl", |_, scope| Ok(Arc::new(Qwen2VlConfig::read(scope)?)))],
    shapes: &[
        Shape::new("qwen2-vl-2b", [1536, 8960, 28, 12, 2], 151_936, true, of_shape),
        Shape::new("qwen2-vl-7b", [3584, 18_944, 28, 28, 4], 152_064, false, of_shape),
    ],
    toy: r#"{"model_type": "qwen2_vl", "text_config": {"model_type": "qwen2_vl_text", "rope_parameters": {"mrope_section": [1, 2, 1]}, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"embed_dim": 16, "num_heads": 2, "mlp_ratio": 2, "depth": 2, "hidden_size": 32, "patch_size": 4}, "image_token_id": 60}"#,
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    let mut flat = shape.text("qwen2_vl", vocab);
    flat["tie_word_embeddings"] = shape.tied.into();
    flat["image_token_id"] = shape::image_token(vocab).into();
    flat["rope_scaling"] = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
    flat["vision_config"] = json!({"hidden_size": shape.sizes[0]});
    flat
}

impl Family for Qwen2VlConfig {
    fn profile(&self) -> Profile<'_> {
        let Qwen2VlVisionConfig { layers, hidden, heads, intermediate, patch, .. } = self.vision;
        Profile {
            name: "qwen2_vl",
            text: &self.text,
            tower: Tower { layers, used: layers, hidden, heads, intermediate, patch },
            image_token: self.image_token,
            video_token: self.video_token,
            names: visual,
            pixels: PixelLayout::Patches(self.vision.patches().numbers()),
        }
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(Qwen2VlReader::load(files, self.vision.patches())?))
    }

    fn packing(&self, image: &Outline) -> Result<Packing> {
        self.vision.patches().packing(image)
    }

    fn positions(&self, ids: &[u32], images: &[PreparedImage]) -> Positions {
        self.vision.patches().positions(ids, self.visual_token(ids), images)
    }

    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(encoder::Qwen2Vl {
            tower: Qwen2VlTower::load(names, &self.vision)?,
            merger: merger(names, &self.vision, self.text.hidden)?,
        }))
    }

    fn vision_words(&self) -> String {
        let Qwen2VlVisionConfig { patch, temporal, merge: m, .. } = self.vision;
        format!("images of any size in patches of {patch} px and {temporal} frames, {m} × {m} patches a token")
    }

    fn vision_fields(&self) -> Value {
        json!({"merge": self.vision.merge, "temporal": self.vision.temporal})
    }
}
