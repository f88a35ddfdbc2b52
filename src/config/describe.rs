//! What a family's configuration comes to, for people and for programs: what `inspect` says of it.

use super::FamilyConfig;
use serde_json::{Value, json};

impl FamilyConfig {
    /// What comes before the language model, in a line.
    pub fn vision_line(&self) -> String {
        match self {
            FamilyConfig::LlavaOnevision(c) => {
                let v = &c.vision;
                format!(
                    "{} layers ({} used), hidden {}, {} heads, MLP {}, tiles of {} px, patches of {} px, {} grids, anyres_max_{}",
                    v.layers,
                    self.vision_layers(),
                    v.hidden,
                    v.heads,
                    v.intermediate,
                    v.image,
                    v.patch,
                    c.pinpoints.len(),
                    c.max_tiles
                )
            }
            FamilyConfig::Qwen2Vl(c) => {
                let v = &c.vision;
                format!(
                    "{} layers, hidden {}, {} heads, MLP {}, images of any size in patches of {} px and {} frames, {m} × {m} patches a token",
                    v.layers,
                    v.hidden,
                    v.heads,
                    v.intermediate,
                    v.patch,
                    v.temporal,
                    m = v.merge
                )
            }
            FamilyConfig::InternVl(c) => {
                let v = &c.vision;
                format!(
                    "{} layers ({} used), hidden {}, {} heads, MLP {}, {:?} norms{}, tiles of {} px, patches of {} px, {m} × {m} patches a token",
                    v.layers,
                    self.vision_layers(),
                    v.hidden,
                    v.heads,
                    v.intermediate,
                    v.norm,
                    if v.qk_norm.is_some() { ", queries and keys normed" } else { "" },
                    v.image,
                    v.patch,
                    m = c.merge
                )
            }
        }
    }

    /// The same for programs: an object.
    pub fn vision_json(&self) -> Value {
        match self {
            FamilyConfig::LlavaOnevision(c) => json!({
                "layers": c.vision.layers, "hidden": c.vision.hidden, "heads": c.vision.heads,
                "intermediate": c.vision.intermediate, "image": c.vision.image, "patch": c.vision.patch,
                "feature_layers": c.feature_layers, "pinpoints": c.pinpoints, "max_tiles": c.max_tiles,
            }),
            FamilyConfig::Qwen2Vl(c) => json!({
                "layers": c.vision.layers, "hidden": c.vision.hidden, "heads": c.vision.heads,
                "intermediate": c.vision.intermediate, "patch": c.vision.patch, "merge": c.vision.merge,
                "temporal": c.vision.temporal,
            }),
            FamilyConfig::InternVl(c) => json!({
                "layers": c.vision.layers, "hidden": c.vision.hidden, "heads": c.vision.heads,
                "intermediate": c.vision.intermediate, "image": c.vision.image, "patch": c.vision.patch,
                "feature_layer": c.feature_layer, "merge": c.merge, "qk_norm": c.vision.qk_norm.is_some(),
                "tiles": c.tiles, "thumbnail": c.thumbnail, "template": c.template,
            }),
        }
    }
}
