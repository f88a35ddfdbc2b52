//! The `config.json` of LLaVA-1.5 (`llava`) and of LLaVA-NeXT (`llava_next`).
//!
//! Source: transformers 5.17, `models/{llava,llava_next}/configuration_*.py`.

use crate::config::defaults::Defaults;
use crate::config::json::Scope;
use crate::config::{Activation, DecoderConfig, SiglipConfig, features};
use crate::error::{Result, ensure};
use crate::family::tile_encoder::TileParts;
use crate::input::{Anyres, Crop};

/// The whole model's configuration. Spec: T5.8
#[derive(Debug, Clone, PartialEq)]
pub struct LlavaConfig {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower.
    pub vision: SiglipConfig,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// Resolutions (height, width) at which an image may be tiled, in LLaVA-NeXT. In LLaVA-1.5, an image is one tile.
    pub pinpoints: Option<Vec<(usize, usize)>>,
    /// The hidden states that the projector reads, concatenated: 0 = embeddings, k = after layer k.
    pub feature_layers: Vec<usize>,
    /// Whether the class token of each tile is dropped (`vision_feature_select_strategy` = `default`).
    pub drop_first: bool,
    /// The projector's activation.
    pub projector_activation: Activation,
    /// Whether the projector's layers have biases.
    pub projector_bias: bool,
}

/// The default of transformers: 5 grids of 336 px tiles. Spec: T4.12
pub(super) fn default_pinpoints() -> Vec<(usize, usize)> {
    vec![(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]
}

impl LlavaConfig {
    /// Reads the outermost object of LLaVA-1.5.
    ///
    /// # Errors
    /// A field has the wrong type or size, contradicts another field, or asks for something that is not supported.
    pub(crate) fn one_tile(scope: &Scope<'_>) -> Result<LlavaConfig> {
        let mut text =
            DecoderConfig::one_of(scope, "text_config", &[&Defaults::LLAMA, &Defaults::MISTRAL, &Defaults::QWEN2])?;
        // The head is tied if either object says so (transformers' `__post_init__`).
        text.tied |= scope.boolean("tie_word_embeddings", false)?;
        let vision = match scope.object("vision_config")? {
            Some(inner) => SiglipConfig::clip(&inner)?,
            None => SiglipConfig::CLIP_LARGE,
        };
        // `image_token_id` is an alias. transformers sets it after `image_token_index`, so the alias wins.
        let key = if scope.get("image_token_id").is_some() { "image_token_id" } else { "image_token_index" };
        Ok(LlavaConfig {
            image_token: scope.token_below(key, 32_000, text.vocab)?,
            pinpoints: None,
            feature_layers: features::feature_layers(scope, vision.layers, -2)?,
            drop_first: features::drop_first(scope, "default")?,
            projector_activation: Activation::read(scope, "projector_hidden_act", Activation::GeluErf)?,
            projector_bias: scope.boolean("multimodal_projector_bias", true)?,
            text,
            vision,
        })
    }

    /// Reads the outermost object of LLaVA-NeXT.
    ///
    /// # Errors
    /// As [`one_tile`](Self::one_tile).
    pub(crate) fn tiles(scope: &Scope<'_>) -> Result<LlavaConfig> {
        let config = Self::one_tile(scope)?;
        let want = "default: a tile's class token has no place in the grid; transformers refuses \"full\" too";
        ensure!(config.drop_first, scope.at("vision_feature_select_strategy"), want, "full");
        let pinpoints = features::pinpoints(scope, config.vision.image, default_pinpoints)?;
        Ok(LlavaConfig { pinpoints: Some(pinpoints), ..config })
    }

    /// What the encoder needs to know.
    pub(super) fn parts(&self) -> TileParts<'_> {
        TileParts {
            vision: &self.vision,
            feature_layers: &self.feature_layers,
            drop_first: self.drop_first,
            activation: self.projector_activation,
            bias: self.projector_bias,
            newline: self.pinpoints.is_some(),
            hidden: self.text.hidden,
        }
    }

    /// The geometry of tiles and tokens in LLaVA-NeXT. The class token is dropped before it matters, and no grid of
    /// tokens is so large that it would be shrunk.
    pub fn anyres(&self) -> Option<Anyres> {
        let (tile, patch) = (self.vision.image, self.vision.patch);
        let pinpoints = self.pinpoints.clone()?;
        Some(Anyres { pinpoints, tile, patch, max_tiles: 1 << 16, drop_first: false })
    }

    /// The square of an image in LLaVA-1.5, as CLIP's processor cuts it.
    pub fn crop(&self) -> Crop {
        let SiglipConfig { image: side, patch, .. } = self.vision;
        Crop { edge: Some(side), cut: true, side, patch, class: !self.drop_first }
    }
}
