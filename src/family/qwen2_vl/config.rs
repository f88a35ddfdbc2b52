//! Qwen2-VL's `config.json`, either flat as on the hub (transformers 4.x) or with a `text_config` (5.x).
//!
//! Source: transformers 5.17, `models/qwen2_vl/configuration_qwen2_vl.py`.

use crate::config::defaults::{Defaults, Windows};
use crate::config::json::Scope;
use crate::config::{Activation, DecoderConfig, features};
use crate::error::{Result, ensure};
use crate::family::patch_reader::{Films, Patches};

/// The defaults of absent fields of a `text_config`. Spec: T6.2
const TEXT: Defaults = Defaults {
    model_types: &["qwen2_vl_text", "qwen2_vl"],
    hidden: 8192,
    layers: 80,
    heads: 64,
    kv_heads: Some(8),
    intermediate: 29568,
    vocab: 152_064,
    norm_eps: 1e-5,
    theta: 1e6,
    windows: Windows::InLayersFrom(80),
    mrope: Some([16, 24, 24]),
    ..Defaults::QWEN2
};

/// The whole model's configuration. Spec: T5.4
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen2VlConfig {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower and its merger.
    pub vision: Qwen2VlVisionConfig,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The id that stands for a row of a video; none if the configured id is outside the vocabulary.
    pub video_token: Option<u32>,
}

/// Sizes and constants of Qwen2-VL's vision tower. Spec: T5.3
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen2VlVisionConfig {
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
    /// θ: base of the rotary frequencies.
    pub rope_theta: f64,
    /// The MLP's activation.
    pub activation: Activation,
}

impl Qwen2VlConfig {
    /// Reads the outermost object.
    ///
    /// # Errors
    /// A field has the wrong type or size, contradicts another field, or asks for something that is not supported.
    pub(crate) fn read(scope: &Scope<'_>) -> Result<Qwen2VlConfig> {
        let inner = scope.object("text_config")?;
        let mut text = DecoderConfig::read(inner.as_ref().unwrap_or(scope), &TEXT)?;
        text.tied |= scope.boolean("tie_word_embeddings", false)?;
        let vision = scope.inner("vision_config")?;
        let width = vision.size("hidden_size", 3584, (1, 1 << 20))?;
        let hidden = text.hidden;
        ensure!(
            width == hidden,
            vision.at("hidden_size"),
            format!("the language model's hidden_size {hidden}, which the rows are merged into"),
            width
        );
        let vision = Qwen2VlVisionConfig::read(&vision)?;
        let image_token = scope.token_below("image_token_id", 151_655, text.vocab)?;
        let video_token = scope.token_within("video_token_id", 151_656, text.vocab)?;
        Ok(Qwen2VlConfig { text, vision, image_token, video_token })
    }
}

impl Qwen2VlVisionConfig {
    /// Reads a `vision_config`; absent fields take transformers' defaults.
    ///
    /// # Errors
    /// A field has the wrong type or size.
    fn read(scope: &Scope<'_>) -> Result<Qwen2VlVisionConfig> {
        // The hub's files and transformers 4 use the value "qwen2_vl" here.
        scope.model_type("qwen2_vl_vision", &["qwen2_vl_vision", "qwen2_vl"])?;
        let hidden = scope.size("embed_dim", 1280, (1, 1 << 20))?;
        let (heads, rope_theta) = features::turned(scope, ("embed_dim", hidden))?;
        let ratio = scope.size("mlp_ratio", 4, (1, 1 << 10))?;
        scope.size("in_channels", 3, (3, 3))?;
        let merge = scope.size("spatial_merge_size", 2, (1, 64))?;
        Ok(Qwen2VlVisionConfig {
            hidden,
            layers: scope.size("depth", 32, (1, 1024))?,
            heads,
            intermediate: hidden * ratio,
            patch: scope.size("patch_size", 14, (1, 1 << 10))?,
            temporal: scope.size("temporal_patch_size", 2, (1, 64))?,
            merge,
            rope_theta,
            activation: Activation::read(scope, "hidden_act", Activation::QuickGelu)?,
        })
    }

    /// The sizes of patches.
    pub fn patches(&self) -> Patches {
        Patches { patch: self.patch, merge: self.merge, temporal: self.temporal, films: Films::Frames }
    }
}
