//! The fields of Qwen3-VL's `config.json`. Source: transformers 5.17, `models/qwen3_vl/configuration_qwen3_vl.py`.

use crate::config::defaults::{Defaults, Windows};
use crate::config::json::Scope;
use crate::config::patch_vit::PatchVitForm;
use crate::config::{Activation, features};
use crate::error::Result;
use crate::family::patch_model::PatchModel;

/// The whole model's configuration. Spec: T5.10
pub type Qwen3VlConfig = PatchModel<Qwen3Vl>;

/// The fields that only Qwen3-VL has. Spec: T5.10
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3Vl {
    /// Number of learned positions. The largest square in them is the grid that is interpolated.
    pub positions: usize,
    /// The list of tower layers that have a merger of their own, in the order of these mergers.
    pub tapped: Vec<usize>,
    /// The tower layers whose features are added after the first decoder layers, in the order of the tower. Spec: E6.18
    pub deepstack: Vec<usize>,
}

/// The defaults of absent fields of a `text_config`. Spec: T6.2
const TEXT: Defaults = Defaults {
    model_types: &["qwen3_vl_text"],
    theta: 5e5,
    max_positions: 128_000,
    windows: Windows::None,
    mrope: Some([24, 20, 20]),
    interleaved: true,
    ..Defaults::QWEN3
};

/// Spec: T5.10; the hub's files use the second model type.
const VISION: PatchVitForm = PatchVitForm {
    model_types: ["qwen3_vl_vision", "qwen3_vl"],
    hidden: ("hidden_size", 1152),
    out: "out_hidden_size",
    layers: 27,
    mlp: ("intermediate_size", 4304, false),
    patch: 16,
    activation: Activation::GeluTanh,
};

pub(super) fn read(scope: &Scope<'_>) -> Result<Qwen3VlConfig> {
    let text = scope.inner("text_config")?;
    let mut model = PatchModel::read(scope, (&text, &TEXT), &VISION, |scope, vision| {
        let tapped = features::layers(scope, "deepstack_visual_indexes", &[8, 16, 24])?;
        Ok(Qwen3Vl {
            positions: scope.size("num_position_embeddings", 2304, (1, 1 << 20))?,
            // A layer that is listed twice gives its features once, and the features come in the order of the layers.
            deepstack: (0..vision.layers).filter(|layer| tapped.contains(layer)).collect(),
            tapped,
        })
    })?;
    model.own.deepstack.truncate(model.text.layers);
    Ok(model)
}
