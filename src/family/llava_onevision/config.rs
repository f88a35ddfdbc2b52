//! LLaVA-OneVision's `config.json`, in the 4.x and the 5.x form.
//!
//! Source: transformers 5.17, `models/llava_onevision/configuration_llava_onevision.py`; the choice of features and the
//! reading of `vision_aspect_ratio`: `modeling_llava_onevision.py`.

use crate::config::defaults::Defaults;
use crate::config::features;
use crate::config::json::{Scope, kind};
use crate::config::{Activation, DecoderConfig, SiglipConfig};
use crate::error::{Error, Result};
use crate::family::tile_encoder::TileParts;
use crate::input::anyres::Anyres;
use serde_json::Value;

/// The whole model's configuration. Spec: T5.2
#[derive(Debug, Clone, PartialEq)]
pub struct LlavaOnevisionConfig {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower.
    pub vision: SiglipConfig,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The id that stands for a row of a video; none if the configured id is outside the vocabulary.
    pub video_token: Option<u32>,
    /// Resolutions (height, width) at which an image may be tiled, in the file's order.
    pub pinpoints: Vec<(usize, usize)>,
    /// N of `anyres_max_N`. If a grid has more tokens than 1.1² · N tiles, it is shrunk.
    pub max_tiles: usize,
    /// The hidden states that the projector reads, concatenated: 0 = embeddings, k = after layer k. Negative numbers in
    /// the file are already resolved.
    pub feature_layers: Vec<usize>,
    /// Whether the first token of each tile is dropped (`vision_feature_select_strategy` = `default`).
    pub drop_first: bool,
    /// The projector's activation.
    pub projector_activation: Activation,
    /// Whether the projector's layers have biases.
    pub projector_bias: bool,
}

/// The tower that transformers uses for a configuration without a `vision_config`.
const TOWER: SiglipConfig = SiglipConfig {
    hidden: 1152,
    layers: 26,
    heads: 16,
    intermediate: 4304,
    image: 384,
    patch: 14,
    channels: 3,
    norm_eps: 1e-6,
    activation: Activation::GeluTanh,
    class: false,
};

impl LlavaOnevisionConfig {
    /// Reads the outermost object.
    ///
    /// # Errors
    /// A field has the wrong type or size, contradicts another field, or asks for something that is not supported.
    pub(crate) fn read(scope: &Scope<'_>) -> Result<LlavaOnevisionConfig> {
        let mut text = DecoderConfig::one_of(scope, "text_config", &[&Defaults::QWEN2])?;
        // The head is tied if either object says so (transformers' `__post_init__`).
        text.tied |= scope.boolean("tie_word_embeddings", false)?;
        let vision = match scope.object("vision_config")? {
            Some(inner) => SiglipConfig::read(&inner)?,
            None => TOWER,
        };
        // `image_token_id` is an alias. transformers sets it after `image_token_index`, so the alias wins.
        let key = if scope.get("image_token_id").is_some() { "image_token_id" } else { "image_token_index" };
        let image_token = scope.token_below(key, 151_646, text.vocab)?;
        let video = if scope.get("video_token_id").is_some() { "video_token_id" } else { "video_token_index" };
        let video_token = scope.token(video, 151_647)?;
        Ok(LlavaOnevisionConfig {
            image_token,
            video_token: Some(video_token).filter(|&id| (id as usize) < text.vocab),
            pinpoints: features::pinpoints(scope, vision.image, default_pinpoints)?,
            max_tiles: max_tiles(scope)?,
            feature_layers: features::feature_layers(scope, vision.layers, -1)?,
            drop_first: features::drop_first(scope, "full")?,
            projector_activation: Activation::read(scope, "projector_hidden_act", Activation::GeluErf)?,
            projector_bias: scope.boolean("multimodal_projector_bias", true)?,
            text,
            vision,
        })
    }

    /// What the encoder needs to know.
    pub(super) fn parts(&self) -> TileParts<'_> {
        TileParts {
            vision: &self.vision,
            feature_layers: &self.feature_layers,
            drop_first: self.drop_first,
            activation: self.projector_activation,
            bias: self.projector_bias,
            newline: true,
            hidden: self.text.hidden,
        }
    }

    /// The geometry of tiles and tokens.
    pub fn anyres(&self) -> Anyres {
        Anyres {
            pinpoints: self.pinpoints.clone(),
            tile: self.vision.image,
            patch: self.vision.patch,
            max_tiles: self.max_tiles,
            drop_first: self.drop_first,
        }
    }
}

/// The default of transformers: 36 grids of 384 px tiles, up to 6 × 6. Spec: T4.4
pub(super) fn default_pinpoints() -> Vec<(usize, usize)> {
    (1..=6).flat_map(|h| (1..=6).map(move |w| (384 * h, 384 * w))).collect()
}

/// N of `anyres_max_N`.
fn max_tiles(scope: &Scope<'_>) -> Result<usize> {
    let found = scope.string("vision_aspect_ratio", "anyres_max_9")?;
    let tiles = found.strip_prefix("anyres_max_").and_then(|n| n.parse::<usize>().ok());
    tiles.filter(|n| (1..=1 << 16).contains(n)).ok_or_else(|| {
        Error::new(scope.at("vision_aspect_ratio"), "anyres_max_N with N from 1 to 65536", kind(&Value::from(found)))
    })
}
