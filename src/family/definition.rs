//! The definition of a family: the trait [`Family`], which the family's configuration implements. The rest of the
//! library reaches a family only through this trait.

use super::encoder::Encoder;
use super::reader::Reader;
use crate::config::DecoderConfig;
use crate::config::json::Scope;
use crate::error::Result;
use crate::files::Files;
use crate::input::conversation::Conversation;
use crate::input::layout::PixelLayout;
use crate::input::packing::Packing;
use crate::input::positions::Positions;
use crate::input::prepared::PreparedImage;
use crate::weights::Names;
use serde_json::{Value, json};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// A model family, as the `config.json` of one checkpoint describes it.
pub trait Family: Any + Debug + Send + Sync {
    /// The part of the family that is plain data.
    fn profile(&self) -> Profile<'_>;

    /// Whether visual rows reach the projector one by one, so that merged rows are sums of what it reads. Spec: E9.36
    fn sums_features(&self) -> bool {
        false
    }

    /// The reader of images and videos, which does the same as the checkpoint's processor.
    ///
    /// # Errors
    /// A file is missing or damaged, a setting is not supported, or two files contradict each other.
    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>>;

    /// The rows of an image or a video, computed without the processor's files and without the pixels.
    ///
    /// # Errors
    /// The family does not accept this size or grid.
    fn packing(&self, image: &Outline) -> Result<Packing>;

    /// The number of frames of a video with `rows` rows, if the video has no grid.
    fn frames(&self, rows: usize) -> usize {
        rows
    }

    /// The positions of a prompt's rows. ids: \[n\], with expanded placeholders → positions of n rows.
    fn positions(&self, ids: &[u32], _images: &[PreparedImage]) -> Positions {
        Positions::in_order(ids.len())
    }

    /// How far the moments of a video of so many frames a second stand apart in time, in positions. Spec: E4.30
    fn interval(&self, _fps: f64) -> f32 {
        1.0
    }

    /// The tower layers whose features are added to the visual rows after the first decoder layers: entry l after
    /// decoder layer l. Empty without DeepStack. Spec: E6.18
    fn deepstack(&self) -> &[usize] {
        &[]
    }

    /// The conversation template from the family's own code, for checkpoints that name such a template and contain no
    /// chat template.
    ///
    /// # Errors
    /// There is no template with this name. Spec: T4.9
    fn conversation(&self, _files: &Files) -> Result<Option<Conversation>> {
        Ok(None)
    }

    /// A token that ends an answer in the family's own code, in addition to the tokens in `generation_config.json`.
    /// Spec: T4.9
    ///
    /// # Errors
    /// A file is not valid JSON.
    fn end(&self, _files: &Files) -> Result<Option<u32>> {
        Ok(None)
    }

    /// Loads the encoder, the part of the model before the language model, from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>>;

    /// A description of the vision side without the tower's sizes, for people.
    fn vision_words(&self) -> String;

    /// A JSON object that describes the vision side without the sizes in [`Tower`], for programs.
    fn vision_fields(&self) -> Value;

    /// One line that describes the vision side, for people.
    fn vision_line(&self) -> String {
        let Tower { layers, used, hidden, heads, intermediate, .. } = self.profile().tower;
        let words = self.vision_words();
        format!("{layers} layers ({used} used), hidden {hidden}, {heads} heads, MLP {intermediate}, {words}")
    }

    /// A JSON object that describes the vision side, for programs.
    fn vision_json(&self) -> Value {
        let Tower { layers, hidden, heads, intermediate, patch, .. } = self.profile().tower;
        let mut all = json!({
            "layers": layers, "hidden": hidden, "heads": heads, "intermediate": intermediate, "patch": patch,
        });
        for (key, value) in self.vision_fields().as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        all
    }

    /// The `model_type`.
    fn name(&self) -> &'static str {
        self.profile().name
    }

    /// The language model's configuration.
    fn text(&self) -> &DecoderConfig {
        self.profile().text
    }

    /// The id that stands for a visual row in the prompt.
    fn image_token(&self) -> u32 {
        self.profile().image_token
    }

    /// The id that stands for a visual row in these ids: the video token if `ids` contains it and contains no image
    /// token, else the image token.
    fn visual_token(&self, ids: &[u32]) -> u32 {
        let Profile { image_token, video_token, .. } = self.profile();
        video_token.filter(|video| ids.contains(video) && !ids.contains(&image_token)).unwrap_or(image_token)
    }
}

impl dyn Family {
    /// The configuration as type `F`; none if the family is another type.
    pub fn as_a<F: Family>(&self) -> Option<&F> {
        (self as &dyn Any).downcast_ref()
    }
}

/// The plain data of a family.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// The `model_type`.
    pub name: &'static str,
    /// The language model's configuration.
    pub text: &'a DecoderConfig,
    /// The vision tower's sizes.
    pub tower: Tower,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The id that stands for a row of a video in the prompt, in families that read videos.
    pub video_token: Option<u32>,
    /// Maps one of our tensor names to the names that checkpoints may use for that tensor, in order of preference.
    pub names: fn(&str) -> Vec<String>,
    /// The layout of the pixels.
    pub pixels: PixelLayout,
}

/// Sizes of a vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tower {
    /// Layers in the checkpoint.
    pub layers: usize,
    /// Layers that are computed. Layers after the last needed layer are not computed.
    pub used: usize,
    /// d_v: width of a row.
    pub hidden: usize,
    /// Number of heads.
    pub heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// Whether each tile has a class token.
    pub class: bool,
}

/// The known data of an image or a video without its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Height and width as decoded.
    pub size: (usize, usize),
    /// Time, height and width in patches, in families that read images of any size.
    pub grid: Option<[usize; 3]>,
    /// The number of images in the prompt, including this image.
    pub of: usize,
    /// The number of frames, if this is a video.
    pub frames: Option<usize>,
    /// The most tiles of an image, if that is not the checkpoint's limit, in families where the caller may choose it.
    pub most: Option<usize>,
}

/// A family's entry in the registry.
pub(crate) struct Entry {
    /// The family's name for people.
    pub title: &'static str,
    /// Whether this library reads videos for the family.
    pub videos: bool,
    /// The family's `model_type`s, each with the function that reads its `config.json`.
    pub kinds: &'static [(&'static str, Read)],
    /// The shapes of the family's public models.
    pub shapes: &'static [Shape],
    /// The `config.json` of a model that computes everything the family has, as small as possible.
    pub toy: &'static str,
}

/// Reads and checks a `config.json`. Some families also read other files.
pub(crate) type Read = fn(&Files, &Scope<'_>) -> Result<Arc<dyn Family>>;

/// The shape of a public model, for measurements without the model's weights. Source: the model's `config.json` on the
/// Hugging Face hub.
pub(crate) struct Shape {
    /// The shape's name.
    pub name: &'static str,
    /// Sizes of the language model: hidden, MLP, layers, heads, KV heads.
    pub sizes: [usize; 5],
    /// V: number of token ids.
    pub vocab: usize,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Makes the whole `config.json` from this shape and the number of token ids. Fields that are left out take
    /// transformers' defaults.
    pub config: Whole,
}

/// See [`Shape::config`].
pub(crate) type Whole = fn(&Shape, usize) -> Value;
