//! Qwen2.5-VL's `config.json`, either flat as on the hub (transformers 4.x) or with a `text_config` (5.x).
//!
//! Source: transformers 5.17, `models/qwen2_5_vl/configuration_qwen2_5_vl.py`.

use crate::config::defaults::{Defaults, Windows};
use crate::config::json::Scope;
use crate::config::{Activation, DecoderConfig, features};
use crate::error::{Result, ensure};
use crate::family::patch_reader::{Films, Patches};

/// The defaults of absent fields of a `text_config`. Spec: T6.2
const TEXT: Defaults = Defaults {
    model_types: &["qwen2_5_vl_text", "qwen2_5_vl"],
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

/// The whole model's configuration. Spec: T5.4, T5.9
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen25VlConfig {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower and its merger.
    pub vision: Qwen25VlVisionConfig,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The id that stands for a row of a video; none if the configured id is outside the vocabulary.
    pub video_token: Option<u32>,
}

/// Sizes and constants of Qwen2.5-VL's vision tower. Spec: T5.9
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen25VlVisionConfig {
    /// d_v: width of the residual stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of heads; the size of a head, `hidden` / `heads`, is a multiple of 4.
    pub heads: usize,
    /// Width of the gated MLP.
    pub intermediate: usize,
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// Number of frames in a patch.
    pub temporal: usize,
    /// m: the side, in patches, of the square that becomes one row.
    pub merge: usize,
    /// The side of a window in squares.
    pub window: usize,
    /// The layers whose rows attend to their whole frame. In the other layers, they attend to their window.
    pub full: Vec<usize>,
    /// How many positions a second of a video has. Spec: E4.30
    pub tokens_per_second: usize,
    /// θ: base of the rotary frequencies.
    pub rope_theta: f64,
    /// The MLP's activation.
    pub activation: Activation,
}

impl Qwen25VlConfig {
    /// Reads the outermost object.
    ///
    /// # Errors
    /// A field has the wrong type or size, contradicts another field, or asks for something that is not supported.
    pub(crate) fn read(scope: &Scope<'_>) -> Result<Qwen25VlConfig> {
        let inner = scope.object("text_config")?;
        let mut text = DecoderConfig::read(inner.as_ref().unwrap_or(scope), &TEXT)?;
        text.tied |= scope.boolean("tie_word_embeddings", false)?;
        let vision = scope.inner("vision_config")?;
        let width = vision.size("out_hidden_size", 3584, (1, 1 << 20))?;
        let want = format!("the language model's hidden_size {}, which the rows are merged into", text.hidden);
        ensure!(width == text.hidden, vision.at("out_hidden_size"), want, width);
        let vision = Qwen25VlVisionConfig::read(&vision)?;
        let image_token = scope.token_below("image_token_id", 151_655, text.vocab)?;
        let video_token = scope.token_within("video_token_id", 151_656, text.vocab)?;
        Ok(Qwen25VlConfig { text, vision, image_token, video_token })
    }
}

impl Qwen25VlVisionConfig {
    /// Reads a `vision_config`; absent fields take transformers' defaults.
    ///
    /// # Errors
    /// A field has the wrong type or size.
    fn read(scope: &Scope<'_>) -> Result<Qwen25VlVisionConfig> {
        // The hub's files and transformers 4 use the value "qwen2_5_vl" here.
        scope.model_type("qwen2_5_vl_vision", &["qwen2_5_vl_vision", "qwen2_5_vl"])?;
        let hidden = scope.size("hidden_size", 3584, (1, 1 << 20))?;
        let (heads, rope_theta) = features::turned(scope, ("hidden_size", hidden))?;
        let layers = scope.size("depth", 32, (1, 1024))?;
        scope.size("in_channels", 3, (3, 3))?;
        let (patch, merge) =
            (scope.size("patch_size", 14, (1, 1 << 10))?, scope.size("spatial_merge_size", 2, (1, 64))?);
        let pixels = scope.size("window_size", 112, (1, 1 << 20))?;
        let window = pixels / merge / patch;
        let want = format!("at least {}, the side of a square of {merge} × {merge} patches", merge * patch);
        ensure!(window > 0, scope.at("window_size"), want, pixels);
        Ok(Qwen25VlVisionConfig {
            hidden,
            layers,
            heads,
            intermediate: scope.size("intermediate_size", 3420, (1, 1 << 22))?,
            patch,
            temporal: scope.size("temporal_patch_size", 2, (1, 64))?,
            merge,
            window,
            full: features::layers(scope, "fullatt_block_indexes", &[7, 15, 23, 31])?,
            tokens_per_second: scope.size("tokens_per_second", 4, (1, 1 << 20))?,
            rope_theta,
            activation: Activation::read(scope, "hidden_act", Activation::Silu)?,
        })
    }

    /// The sizes of patches.
    pub fn patches(&self) -> Patches {
        Patches { patch: self.patch, merge: self.merge, temporal: self.temporal, films: Films::Frames }
    }
}
