//! Qwen2.5-VL: a tower over patches of images of any size whose rows attend within windows, a merger, and Qwen2 with M-RoPE
//! as the decoder.

mod config;
mod tower;

pub use config::{Qwen25VlConfig, Qwen25VlVisionConfig};
pub use tower::Qwen25VlTower;

use super::definition::{Entry, Shape};
use super::patch_reader::PatchReader;
use super::{Encoder, Family, Outline, Profile, Reader, Tower, shape};
use crate::error::Result;
use crate::files::Files;
use crate::input::{Packing, PixelLayout, Positions, PreparedImage};
use crate::weights::Names;
use crate::weights::names::visual;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const ENTRY: Entry = Entry {
    title: "Qwen2.5-VL",
    videos: true,
    kinds: &[("qwen2_5_vl", |_, scope| Ok(Arc::new(Qwen25VlConfig::read(scope)?)))],
    shapes: &[
        Shape::new("qwen2.5-vl-3b", [2048, 11_008, 36, 16, 2], 151_936, true, of_shape),
        Shape::new("qwen2.5-vl-7b", [3584, 18_944, 28, 28, 4], 152_064, false, of_shape),
    ],
    toy: r#"{"model_type": "qwen2_5_vl", "text_config": {"model_type": "qwen2_5_vl_text", "rope_parameters": {"mrope_section": [1, 2, 1]}, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 512}, "vision_config": {"hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "depth": 2, "out_hidden_size": 32, "patch_size": 4, "window_size": 16, "fullatt_block_indexes": [1]}, "image_token_id": 60}"#,
};

fn of_shape(shape: &Shape, vocab: usize) -> Value {
    let mut flat = shape.text("qwen2_5_vl", vocab);
    flat["tie_word_embeddings"] = shape.tied.into();
    flat["image_token_id"] = shape::image_token(vocab).into();
    flat["rope_scaling"] = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
    flat["vision_config"] = json!({"hidden_size": 1280, "out_hidden_size": shape.sizes[0]});
    flat
}

impl Family for Qwen25VlConfig {
    fn profile(&self) -> Profile<'_> {
        let Qwen25VlVisionConfig { layers, hidden, heads, intermediate, patch, .. } = self.vision;
        Profile {
            name: "qwen2_5_vl",
            text: &self.text,
            tower: Tower { layers, used: layers, hidden, heads, intermediate, patch },
            image_token: self.image_token,
            video_token: self.video_token,
            names: visual,
            pixels: PixelLayout::Patches(self.vision.patches().numbers()),
        }
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(PatchReader::load(files, self.vision.patches())?))
    }

    fn packing(&self, image: &Outline) -> Result<Packing> {
        self.vision.patches().packing(image)
    }

    fn positions(&self, ids: &[u32], images: &[PreparedImage]) -> Positions {
        self.vision.patches().positions(ids, self.visual_token(ids), images)
    }

    fn interval(&self, fps: f64) -> f32 {
        self.vision.tokens_per_second as f32 * (self.vision.temporal as f64 / fps) as f32
    }

    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(Qwen25VlTower::load(names, &self.vision, self.text.hidden)?))
    }

    fn vision_words(&self) -> String {
        let Qwen25VlVisionConfig { patch, temporal, merge: m, window, ref full, .. } = self.vision;
        let full = full.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "images of any size in patches of {patch} px and {temporal} frames, {m} × {m} patches a token, windows of {window} × {window} tokens but in layers {full}"
        )
    }

    fn vision_fields(&self) -> Value {
        let v = &self.vision;
        json!({"merge": v.merge, "temporal": v.temporal, "window": v.window, "full_attention_layers": v.full, "tokens_per_second": v.tokens_per_second})
    }
}
