//! What a checkpoint says of itself: `config.json` and `generation_config.json`, checked, with transformers' defaults.
//!
//! One struct a family, whose fields are plain numbers: whoever holds one need not check again. Spec: chapter 05, 06
//!
//! Source: transformers 5.17, `configuration_utils.py`, `models/*/configuration_*.py`. A missing number takes
//! transformers' default; `null` is an error where the forward pass needs a number.

mod activation;
pub(crate) mod added;
mod decoder;
mod defaults;
mod describe;
mod generation;
mod intern_vit;
mod internvl;
pub(crate) mod json;
mod llava_onevision;
mod qwen2_vl;
mod siglip;

pub use activation::Activation;
pub use decoder::{DecoderConfig, Projections};
pub use generation::GenerationConfig;
pub use intern_vit::{InternVitConfig, NormKind};
pub(crate) use internvl::CONTEXT;
pub use internvl::InternVlConfig;
pub use llava_onevision::LlavaOnevisionConfig;
pub use qwen2_vl::{Qwen2VlConfig, Qwen2VlVisionConfig};
pub use siglip::SiglipConfig;

use crate::error::{Error, Result};
use crate::files::Files;
use json::Scope;
use serde_json::{Map, Value};

/// The most heads of a layer: several times what any model has.
const MAX_HEADS: usize = 1 << 10;

/// The model families this library knows, with their configuration.
///
/// Matches on it inside the crate name every family, so that the compiler lists what a new one has to say.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FamilyConfig {
    /// LLaVA-OneVision: SigLIP, two-layer projector, Qwen2.
    LlavaOnevision(LlavaOnevisionConfig),
    /// Qwen2-VL: a tower over images of any size, a merger of patches, Qwen2 with M-RoPE.
    Qwen2Vl(Qwen2VlConfig),
    /// InternVL2: InternViT over tiles, pixel shuffle, Qwen2, InternLM2 or Llama; its own form and transformers'.
    InternVl(InternVlConfig),
}

impl FamilyConfig {
    /// The families' `model_type`s.
    pub const KNOWN: [&str; 4] = ["llava_onevision", "qwen2_vl", "internvl_chat", "internvl"];

    /// Reads and checks `config.json`.
    ///
    /// ```
    /// # fn main() -> aircache::Result<()> {
    /// use aircache::{config::FamilyConfig, files::Files};
    /// let files = Files::Embedded(&[("config.json", b"{\"model_type\": \"bert\"}")]);
    /// let error = FamilyConfig::load(&files).unwrap_err();
    /// assert_eq!(error.at, "demo model: config.json: model_type");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The file is missing or no JSON; the model type is unknown; a field is missing, of the wrong type, out of range, at
    /// odds with another, or asks for something that is not supported. The message names the field.
    pub fn load(files: &Files) -> Result<FamilyConfig> {
        let label = files.label("config.json");
        let Some(map) = json::load(files, "config.json")? else {
            return Err(Error::new(label, "a model configuration", "no such file")
                .remedy("give a folder as it lies on the Hugging Face hub"));
        };
        Self::read(files, &label, &map)
    }

    /// What is in a `config.json`; label: for messages.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn read(files: &Files, label: &str, map: &Map<String, Value>) -> Result<FamilyConfig> {
        let scope = Scope::new(label, map);
        Ok(match scope.model_type("", &Self::KNOWN)? {
            "llava_onevision" => FamilyConfig::LlavaOnevision(LlavaOnevisionConfig::read(&scope)?),
            "qwen2_vl" => FamilyConfig::Qwen2Vl(Qwen2VlConfig::read(&scope)?),
            "internvl_chat" => FamilyConfig::InternVl(InternVlConfig::own(files, &scope)?),
            "internvl" => FamilyConfig::InternVl(InternVlConfig::transformers(files, &scope)?),
            other => unreachable!("T5.2: {other} is among the families known"),
        })
    }

    /// All that [`load`](Self::load) would complain about, one complaint after the other: each field complained of is
    /// left out, so that its default stands in for what follows. The configuration is given where there is no complaint.
    pub(crate) fn survey(files: &Files) -> (Option<FamilyConfig>, Vec<Error>) {
        let label = files.label("config.json");
        let mut map = match json::load(files, "config.json") {
            Ok(Some(map)) => map,
            _ => return (None, Self::load(files).err().into_iter().collect()),
        };
        let mut problems = Vec::new();
        loop {
            let e = match Self::read(files, &label, &map) {
                Ok(config) => return (Some(config).filter(|_| problems.is_empty()), problems),
                Err(e) => e,
            };
            let field = e.at.strip_prefix(&format!("{label}: ")).unwrap_or_default();
            let removed = json::remove(&mut map, field);
            // A complaint about a default is only the consequence of the one before.
            if removed || problems.is_empty() {
                problems.push(e);
            }
            if !removed {
                return (None, problems);
            }
        }
    }

    /// The `model_type`.
    pub fn name(&self) -> &'static str {
        match self {
            FamilyConfig::LlavaOnevision(_) => "llava_onevision",
            FamilyConfig::Qwen2Vl(_) => "qwen2_vl",
            FamilyConfig::InternVl(InternVlConfig { template: Some(_), .. }) => "internvl_chat",
            FamilyConfig::InternVl(_) => "internvl",
        }
    }

    /// The language model's part.
    pub fn text(&self) -> &DecoderConfig {
        match self {
            FamilyConfig::LlavaOnevision(config) => &config.text,
            FamilyConfig::Qwen2Vl(config) => &config.text,
            FamilyConfig::InternVl(config) => &config.text,
        }
    }

    /// The id that stands for a row of a video in the prompt, in families that read videos.
    pub fn video_token(&self) -> Option<u32> {
        match self {
            FamilyConfig::LlavaOnevision(config) => config.video_token,
            FamilyConfig::Qwen2Vl(config) => config.video_token,
            FamilyConfig::InternVl(_) => None,
        }
    }

    /// The id that stands for a visual row in these ids: of an image, or, where there is no image, of a video.
    pub fn visual_token(&self, ids: &[u32]) -> u32 {
        let video = self.video_token().filter(|video| ids.contains(video) && !ids.contains(&self.image_token()));
        video.unwrap_or(self.image_token())
    }

    /// The id that stands for a visual row in the prompt.
    pub fn image_token(&self) -> u32 {
        match self {
            FamilyConfig::LlavaOnevision(config) => config.image_token,
            FamilyConfig::Qwen2Vl(config) => config.image_token,
            FamilyConfig::InternVl(config) => config.image_token,
        }
    }

    /// The vision tower's sizes: side of a patch in pixels, width of a row, width of its MLP.
    pub(crate) fn vision_sizes(&self) -> [usize; 3] {
        match self {
            FamilyConfig::LlavaOnevision(LlavaOnevisionConfig { vision: v, .. }) => [v.patch, v.hidden, v.intermediate],
            FamilyConfig::Qwen2Vl(Qwen2VlConfig { vision: v, .. }) => [v.patch, v.hidden, v.intermediate],
            FamilyConfig::InternVl(InternVlConfig { vision: v, .. }) => [v.patch, v.hidden, v.intermediate],
        }
    }

    /// Vision layers that are computed: those after the last one needed are not.
    pub fn vision_layers(&self) -> usize {
        match self {
            FamilyConfig::LlavaOnevision(config) => config.feature_layers.iter().copied().max().unwrap_or(0),
            FamilyConfig::Qwen2Vl(config) => config.vision.layers,
            FamilyConfig::InternVl(config) => config.feature_layer,
        }
    }
}
