//! The model of the families that read patches of images of any size: a tower over patches, a merger of patches, and a
//! decoder with M-RoPE. A family adds what it has of its own ([`Own`]).
//!
//! Source: transformers 5.17, `models/qwen*_vl/configuration_*.py`.

use super::definition::Shape;
use super::patch_reader::{Films, PatchReader, Patches};
use super::{Encoder, Family, Outline, Profile, Reader, Tower, shape};
use crate::config::defaults::{Defaults, Windows};
use crate::config::json::Scope;
use crate::config::patch_vit::PatchVitForm;
use crate::config::{Activation, DecoderConfig, NormKind, PatchVitConfig};
use crate::error::Result;
use crate::files::Files;
use crate::input::{Packing, PixelLayout, Positions, PreparedImage};
use crate::vision::{PATCH_VIT_EPS, Projector};
use crate::weights::Names;
use crate::weights::names::visual;
use serde_json::{Value, json};
use std::any::Any;
use std::fmt::Debug;

/// The defaults of absent fields of a `text_config` with M-RoPE, but its model type. Spec: T6.2
pub(super) const TEXT: Defaults = Defaults {
    model_types: &[],
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
pub struct PatchModel<O> {
    /// The language model.
    pub text: DecoderConfig,
    /// The vision tower.
    pub vision: PatchVitConfig,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The id that stands for a row of a video; none if the configured id is outside the vocabulary.
    pub video_token: Option<u32>,
    /// The fields that only this family has.
    pub own: O,
}

/// What a family has of its own.
pub trait Own: Any + Debug + Send + Sync + Sized {
    /// The `model_type`.
    const NAME: &'static str;
    /// How the family reads videos.
    const FILMS: Films;

    /// As [`Family::encoder`].
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    fn encoder(model: &PatchModel<Self>, names: &Names<'_>) -> Result<Box<dyn Encoder>>;

    /// As [`Family::interval`]. vision: the tower. Spec: E4.30
    fn interval(&self, _vision: &PatchVitConfig, _fps: f64) -> f32 {
        1.0
    }

    /// As [`Family::deepstack`].
    fn deepstack(&self) -> &[usize] {
        &[]
    }

    /// What [`Family::vision_words`] says of the own fields, after a comma.
    fn words(&self) -> String {
        String::new()
    }

    /// What [`Family::vision_fields`] says of the own fields: a JSON object.
    fn fields(&self) -> Value {
        json!({})
    }
}

impl<O> PatchModel<O> {
    /// Reads the outermost object. text: the object of the language model, and its defaults; own: reads the fields that
    /// only this family has.
    ///
    /// # Errors
    /// A field has the wrong type or size, contradicts another field, or asks for something that is not supported.
    pub(super) fn read(
        scope: &Scope<'_>,
        text: (&Scope<'_>, &Defaults),
        form: &PatchVitForm,
        own: impl FnOnce(&Scope<'_>, &PatchVitConfig) -> Result<O>,
    ) -> Result<Self> {
        let mut text = DecoderConfig::read(text.0, text.1)?;
        text.tied |= scope.boolean("tie_word_embeddings", false)?;
        let of_vision = scope.inner("vision_config")?;
        let vision = PatchVitConfig::read(&of_vision, form, text.hidden)?;
        let own = own(&of_vision, &vision)?;
        let image_token = scope.token_below("image_token_id", 151_655, text.vocab)?;
        let video_token = scope.token_within("video_token_id", 151_656, text.vocab)?;
        Ok(PatchModel { text, vision, image_token, video_token, own })
    }
}

impl<O: Own> PatchModel<O> {
    /// The sizes of patches.
    pub fn patches(&self) -> Patches {
        let PatchVitConfig { patch, merge, temporal, .. } = self.vision;
        Patches { patch, merge, temporal, films: O::FILMS }
    }
}

impl<O: Own> Family for PatchModel<O> {
    fn profile(&self) -> Profile<'_> {
        let PatchVitConfig { layers, hidden, heads, intermediate, patch, .. } = self.vision;
        Profile {
            name: O::NAME,
            text: &self.text,
            tower: Tower { layers, used: layers, hidden, heads, intermediate, patch, class: false },
            image_token: self.image_token,
            video_token: self.video_token,
            names: visual,
            pixels: PixelLayout::Patches(self.vision.numbers()),
        }
    }

    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>> {
        Ok(Box::new(PatchReader::load(files, self.patches())?))
    }

    fn packing(&self, image: &Outline) -> Result<Packing> {
        self.patches().packing(image)
    }

    fn positions(&self, ids: &[u32], images: &[PreparedImage]) -> Positions {
        self.patches().positions(ids, self.visual_token(ids), images)
    }

    fn interval(&self, fps: f64) -> f32 {
        self.own.interval(&self.vision, fps)
    }

    fn deepstack(&self) -> &[usize] {
        self.own.deepstack()
    }

    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>> {
        O::encoder(self, names)
    }

    fn vision_words(&self) -> String {
        let PatchVitConfig { patch, temporal, merge: m, .. } = self.vision;
        let own = self.own.words();
        format!("images of any size in patches of {patch} px and {temporal} frames, {m} × {m} patches a token{own}")
    }

    fn vision_fields(&self) -> Value {
        let mut all = json!({"merge": self.vision.merge, "temporal": self.vision.temporal});
        for (key, value) in self.own.fields().as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        all
    }
}

/// Loads a merger that norms each patch, and turns each square of patches into one row of width d.
///
/// # Errors
/// A tensor is missing, or its shape differs from the configuration.
pub fn merger(names: &Names<'_>, c: &PatchVitConfig, norm: NormKind, d: usize) -> Result<Projector> {
    let square = c.hidden * c.merge.pow(2);
    let parts = ["vision.merger.ln_q", "vision.merger.mlp.0", "vision.merger.mlp.2"];
    Projector::load(names, parts, (norm, c.hidden, PATCH_VIT_EPS), [square, square, d], Activation::GeluErf)
}

/// The `config.json` of a public model in its flat form.
pub(super) fn of_shape(name: &str, shape: &Shape, vocab: usize, tower: Value) -> Value {
    let mut flat = shape.text(name, vocab);
    flat["tie_word_embeddings"] = shape.tied.into();
    flat["image_token_id"] = shape::image_token(vocab).into();
    flat["rope_scaling"] = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
    flat["vision_config"] = tower;
    flat
}
