//! The fields of Qwen2.5-VL's `config.json`, which is either flat, as on the hub (transformers 4.x), or has a `text_config` (5.x).
//! Source: transformers 5.17, `models/qwen2_5_vl/configuration_qwen2_5_vl.py`.

use crate::config::defaults::Defaults;
use crate::config::json::Scope;
use crate::config::patch_vit::PatchVitForm;
use crate::config::{Activation, PatchVitConfig, features};
use crate::error::{Result, ensure};
use crate::family::patch_model::{PatchModel, TEXT};

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

pub(super) fn read(scope: &Scope<'_>) -> Result<Qwen25VlConfig> {
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
