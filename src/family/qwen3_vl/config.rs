//! Qwen3-VL's `config.json`.
//!
//! Source: transformers 5.17, `models/qwen3_vl/configuration_qwen3_vl.py`.

use crate::config::defaults::{Defaults, Windows};
use crate::config::json::Scope;
use crate::config::{Activation, DecoderConfig, features};
use crate::error::{Result, ensure};
use crate::family::patch_reader::{Films, Patches};

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

/// The whole model's configuration. Spec: T5.4, T5.10
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3VlConfig {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower and its mergers.
    pub vision: Qwen3VlVisionConfig,
    /// The tower layers whose features are added after the first decoder layers, in the order of the tower. Spec: E6.18
    pub deepstack: Vec<usize>,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The id that stands for a row of a video; none if the configured id is outside the vocabulary.
    pub video_token: Option<u32>,
}

/// Sizes and constants of Qwen3-VL's vision tower. Spec: T5.10
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3VlVisionConfig {
    /// d_v: width of the residual stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of heads; the size of a head, `hidden` / `heads`, is a multiple of 4.
    pub heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// Number of frames in a patch.
    pub temporal: usize,
    /// m: the side, in patches, of the square that becomes one row.
    pub merge: usize,
    /// Number of learned positions. The largest square in them is the grid that is interpolated.
    pub positions: usize,
    /// The list of tower layers that have a merger of their own, in the order of these mergers.
    pub tapped: Vec<usize>,
    /// θ: base of the rotary frequencies.
    pub rope_theta: f64,
    /// The MLP's activation.
    pub activation: Activation,
}

impl Qwen3VlConfig {
    /// Reads the outermost object.
    ///
    /// # Errors
    /// A field has the wrong type or size, contradicts another field, or asks for something that is not supported.
    pub(crate) fn read(scope: &Scope<'_>) -> Result<Qwen3VlConfig> {
        let mut text = DecoderConfig::read(&scope.inner("text_config")?, &TEXT)?;
        text.tied |= scope.boolean("tie_word_embeddings", false)?;
        let vision = scope.inner("vision_config")?;
        let width = vision.size("out_hidden_size", 3584, (1, 1 << 20))?;
        let want = format!("the language model's hidden_size {}, which the rows are merged into", text.hidden);
        ensure!(width == text.hidden, vision.at("out_hidden_size"), want, width);
        let vision = Qwen3VlVisionConfig::read(&vision)?;
        // A layer that is listed twice gives its features once, and the features come in the order of the layers.
        let tapped = (0..vision.layers).filter(|layer| vision.tapped.contains(layer));
        let deepstack = tapped.take(text.layers).collect();
        let image_token = scope.token_below("image_token_id", 151_655, text.vocab)?;
        let video_token = scope.token_within("video_token_id", 151_656, text.vocab)?;
        Ok(Qwen3VlConfig { text, vision, deepstack, image_token, video_token })
    }
}

impl Qwen3VlVisionConfig {
    /// Reads a `vision_config`; absent fields take transformers' defaults.
    ///
    /// # Errors
    /// A field has the wrong type or size.
    fn read(scope: &Scope<'_>) -> Result<Qwen3VlVisionConfig> {
        // The hub's files use the value "qwen3_vl" here.
        scope.model_type("qwen3_vl_vision", &["qwen3_vl_vision", "qwen3_vl"])?;
        let hidden = scope.size("hidden_size", 1152, (1, 1 << 20))?;
        let (heads, rope_theta) = features::turned(scope, ("hidden_size", hidden))?;
        scope.size("in_channels", 3, (3, 3))?;
        Ok(Qwen3VlVisionConfig {
            hidden,
            layers: scope.size("depth", 27, (1, 1024))?,
            heads,
            intermediate: scope.size("intermediate_size", 4304, (1, 1 << 22))?,
            patch: scope.size("patch_size", 16, (1, 1 << 10))?,
            temporal: scope.size("temporal_patch_size", 2, (1, 64))?,
            merge: scope.size("spatial_merge_size", 2, (1, 64))?,
            positions: scope.size("num_position_embeddings", 2304, (1, 1 << 20))?,
            tapped: features::layers(scope, "deepstack_visual_indexes", &[8, 16, 24])?,
            rope_theta,
            activation: Activation::read(scope, "hidden_act", Activation::GeluTanh)?,
        })
    }

    /// The sizes of patches.
    pub fn patches(&self) -> Patches {
        Patches { patch: self.patch, merge: self.merge, temporal: self.temporal, films: Films::Stamped }
    }
}
