//! InternVL's `config.json`, in the form of its own code (`internvl_chat`) and in transformers' form (`internvl`).
//! Source: InternVL2's `*_internvl_chat.py`; transformers 5.17, `models/internvl/configuration_internvl.py`.

use crate::config::defaults::Defaults;
use crate::config::json::{Scope, kind};
use crate::config::{Activation, DecoderConfig, InternVitConfig, added};
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use crate::input::{Tiling, tiling};
use serde_json::Value;

/// The whole model's configuration. Spec: T5.6
#[derive(Debug, Clone, PartialEq)]
pub struct InternVlConfig {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower.
    pub vision: InternVitConfig,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The hidden state of the tower that the projector reads: 0 = embeddings, k = after layer k.
    pub feature_layer: usize,
    /// m: the side, in patches, of the square that becomes one row.
    pub merge: usize,
    /// Whether the rows of a tile are in column order (`ps_version` v1).
    pub transposed: bool,
    /// The projector's activation.
    pub activation: Activation,
    /// The minimum and maximum number of tiles of an image, without the thumbnail. If none, each image is one tile. In
    /// transformers' form, the image processor's file holds the two numbers.
    pub tiles: Option<(usize, usize)>,
    /// Whether a tile of the whole image follows if the image has several tiles.
    pub thumbnail: bool,
    /// The name of the conversation template in InternVL2's own form; none in transformers' form.
    pub template: Option<String>,
}

/// The kinds of decoders; transformers' form has the first three.
const KINDS: [&Defaults; 5] =
    [&Defaults::QWEN2, &Defaults::QWEN3, &Defaults::LLAMA, &Defaults::INTERNLM2, &Defaults::PHI3];
/// The token that stands for a visual row in the prompt.
pub(super) const CONTEXT: &str = "<IMG_CONTEXT>";
/// The largest number of tiles that a configuration may allow for an image. It bounds the search for a grid.
pub(super) const MOST_TILES: usize = 256;
const FRACTION: &str = "one over a whole number that divides the patches along a tile's side";

impl InternVlConfig {
    /// Reads the outermost object of InternVL2's own form. The placeholder's id comes from the tokenizer's files.
    ///
    /// # Errors
    /// A field has the wrong type or size, contradicts another field, or asks for something that is not supported.
    pub(crate) fn own(files: &Files, scope: &Scope<'_>) -> Result<InternVlConfig> {
        let vision = InternVitConfig::own(&scope.inner("vision_config")?)?;
        let flash = ["flash_mode", "flash_relative_threshold"].into_iter().find(|key| scope.get(key).is_some());
        let want = "no such field (InternVL3.5-Flash is not supported)";
        ensure!(flash.is_none(), scope.at(flash.unwrap_or_default()), want, "a value");
        let text = DecoderConfig::one_of(scope, "llm_config", &KINDS)?;
        for key in ["use_backbone_lora", "use_llm_lora"] {
            let remedy = "merge it: InternVL's own tools/merge_lora.py INPUT OUTPUT writes a checkpoint without it";
            scope.size(key, 0, (0, 0)).map_err(|e| e.remedy(remedy))?;
        }
        ensure!(!scope.boolean("pad2square", false)?, scope.at("pad2square"), "false", true);
        if let Some(v) = scope.get("rope_pos_id_version").filter(|v| !v.is_null() && *v != "default") {
            let want = "\"default\" (V2PE's fractional positions are not supported)";
            return Err(Error::new(scope.at("rope_pos_id_version"), want, kind(v)));
        }
        if !matches!(scope.get("force_image_size"), None | Some(Value::Null)) {
            let forced = scope.size("force_image_size", 0, (1, 1 << 14))?;
            let want = format!("vision_config.image_size {} (positions are not interpolated)", vision.image);
            ensure!(forced == vision.image, scope.at("force_image_size"), want, forced);
        }
        let transposed = match scope.string("ps_version", "v1")? {
            "v1" => true,
            "v2" => false,
            other => return Err(Error::new(scope.at("ps_version"), "v1 or v2", kind(&Value::from(other)))),
        };
        let most = scope.size("max_dynamic_patch", 6, (1, MOST_TILES))?;
        let few = scope.size("min_dynamic_patch", 1, (1, most))?;
        let image_token = added::id(files, CONTEXT)?.filter(|&id| (id as usize) < text.vocab).ok_or_else(|| {
            let at = files.label("added_tokens.json");
            Error::new(at, format!("{CONTEXT}, with an id below vocab_size {}", text.vocab), "none")
                .remedy("add it to tokenizer_config.json or tokenizer.json")
        })?;
        Ok(InternVlConfig {
            image_token,
            feature_layer: scope.state("select_layer", vision.layers)?,
            merge: merge(scope, &vision)?,
            transposed,
            activation: Activation::GeluErf,
            tiles: scope.boolean("dynamic_image_size", false)?.then_some((few, most)),
            thumbnail: scope.boolean("use_thumbnail", false)?,
            template: Some(scope.string("template", "")?.to_string()),
            text,
            vision,
        })
    }

    /// Reads the outermost object of transformers' form.
    ///
    /// # Errors
    /// The errors of [`own`](Self::own).
    pub(crate) fn transformers(files: &Files, scope: &Scope<'_>) -> Result<InternVlConfig> {
        let mut vision = InternVitConfig::transformers(&scope.inner("vision_config")?)?;
        let mut text = DecoderConfig::one_of(scope, "text_config", &KINDS[..3])?;
        text.tied |= scope.boolean("tie_word_embeddings", true)?;
        let image_token = scope.token_below("image_token_id", 151_667, text.vocab)?;
        let strategy = scope.string("vision_feature_select_strategy", "default")?;
        let at = scope.at("vision_feature_select_strategy");
        ensure!(strategy == "default", at, "default (the class token is dropped)", kind(&Value::from(strategy)));
        let merge = merge(scope, &vision)?;
        let rows = (vision.side() / merge).pow(2);
        let told = scope.size("image_seq_length", 256, (1, 1 << 24))?;
        ensure!(told == rows, scope.at("image_seq_length"), format!("{rows}, the rows of a tile"), told);
        // The last norm applies to the tower's final output only. It does not apply to a state chosen by its number.
        vision.last_norm &= matches!(scope.get("vision_feature_layer").map(Value::as_i64), None | Some(Some(-1)));
        Ok(InternVlConfig {
            image_token,
            feature_layer: scope.state("vision_feature_layer", vision.layers)?,
            merge,
            transposed: false,
            activation: Activation::read(scope, "projector_hidden_act", Activation::GeluErf)?,
            tiles: Some(tiling::limits(files, MOST_TILES)?),
            thumbnail: true,
            template: None,
            text,
            vision,
        })
    }

    /// Number of rows along a side of a tile.
    pub fn rows_along(&self) -> usize {
        self.vision.side() / self.merge
    }

    /// The geometry of tiles and rows.
    pub fn tiling(&self) -> Tiling {
        Tiling {
            tile: self.vision.image,
            unit: self.vision.patch * self.merge,
            along: self.rows_along(),
            transposed: self.transposed,
            tiles: self.tiles,
            thumbnail: self.thumbnail,
        }
    }
}

/// m = 1 / `downsample_ratio`.
fn merge(scope: &Scope<'_>, vision: &InternVitConfig) -> Result<usize> {
    let ratio = scope.number("downsample_ratio", 0.5, |x| x > 0.0 && x <= 1.0, FRACTION)?;
    let merge = (1.0 / ratio) as usize;
    let whole = merge as f64 * ratio == 1.0 && vision.side().is_multiple_of(merge);
    ensure!(whole, scope.at("downsample_ratio"), format!("{FRACTION}, {}", vision.side()), ratio);
    Ok(merge)
}
