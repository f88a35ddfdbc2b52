//! LLaVA-OneVision's `config.json`, in the 4.x and the 5.x form.
//!
//! Source: transformers 5.17, `models/llava_onevision/configuration_llava_onevision.py`; the choice of features and the
//! reading of `vision_aspect_ratio`: `modeling_llava_onevision.py`.

use crate::config::defaults::Defaults;
use crate::config::json::{Scope, integer, kind, state_of};
use crate::config::{Activation, DecoderConfig, SiglipConfig};
use crate::error::{Error, Result, ensure};
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
            pinpoints: pinpoints(scope, vision.image)?,
            max_tiles: max_tiles(scope)?,
            feature_layers: feature_layers(scope, vision.layers)?,
            drop_first: drop_first(scope)?,
            projector_activation: Activation::read(scope, "projector_hidden_act", Activation::GeluErf)?,
            projector_bias: scope.boolean("multimodal_projector_bias", true)?,
            text,
            vision,
        })
    }

    /// The number of tower layers that are computed: all layers up to the last one whose output is read.
    pub fn used_layers(&self) -> usize {
        self.feature_layers.iter().copied().max().unwrap_or(0)
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

/// Resolutions as (height, width).
fn pinpoints(scope: &Scope<'_>, tile: usize) -> Result<Vec<(usize, usize)>> {
    let at = |i: usize| scope.at(&format!("image_grid_pinpoints[{i}]"));
    let pairs = match scope.get("image_grid_pinpoints") {
        None | Some(Value::Null) => default_pinpoints(),
        Some(Value::Array(list)) if (1..=4096).contains(&list.len()) => list
            .iter()
            .enumerate()
            .map(|(i, pair)| match pair {
                Value::Array(p) if p.len() == 2 => {
                    let side = |k: usize| integer(&p[k], &format!("{}[{k}]", at(i)), (1, 1 << 16));
                    Ok((side(0)?, side(1)?))
                }
                other => Err(Error::new(at(i), "a pair [height, width]", kind(other))),
            })
            .collect::<Result<Vec<_>>>()?,
        Some(other) => {
            return Err(Error::new(scope.at("image_grid_pinpoints"), "a list of 1 to 4096 pairs", kind(other)));
        }
    };
    for (i, &(h, w)) in pairs.iter().enumerate() {
        let got = format!("[{h}, {w}]");
        ensure!(h % tile == 0 && w % tile == 0, at(i), format!("multiples of vision_config.image_size {tile}"), got);
    }
    Ok(pairs)
}

/// N of `anyres_max_N`.
fn max_tiles(scope: &Scope<'_>) -> Result<usize> {
    let found = scope.string("vision_aspect_ratio", "anyres_max_9")?;
    let tiles = found.strip_prefix("anyres_max_").and_then(|n| n.parse::<usize>().ok());
    tiles.filter(|n| (1..=1 << 16).contains(n)).ok_or_else(|| {
        Error::new(scope.at("vision_aspect_ratio"), "anyres_max_N with N from 1 to 65536", kind(&Value::from(found)))
    })
}

/// Indices into the hidden states (0 = embeddings, k = after layer k). Negative indices count from the end.
fn feature_layers(scope: &Scope<'_>, layers: usize) -> Result<Vec<usize>> {
    match scope.get("vision_feature_layer") {
        None => Ok(vec![layers]),
        Some(Value::Array(list)) if (1..=1024).contains(&list.len()) => {
            let at = |i: usize| scope.at(&format!("vision_feature_layer[{i}]"));
            list.iter().enumerate().map(|(i, value)| state_of(value, at(i), layers)).collect()
        }
        Some(value @ Value::Array(_)) => {
            Err(Error::new(scope.at("vision_feature_layer"), "a layer or a list of 1 to 1024 layers", kind(value)))
        }
        Some(value) => Ok(vec![state_of(value, scope.at("vision_feature_layer"), layers)?]),
    }
}

/// Whether the select strategy is `default`.
fn drop_first(scope: &Scope<'_>) -> Result<bool> {
    match scope.string("vision_feature_select_strategy", "full")? {
        "full" => Ok(false),
        "default" => Ok(true),
        other => {
            Err(Error::new(scope.at("vision_feature_select_strategy"), "full or default", kind(&Value::from(other))))
        }
    }
}
