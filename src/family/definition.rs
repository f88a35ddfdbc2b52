//! What a family gives: one trait, which its configuration has, and everything else comes from that.

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
    /// What is plain data.
    fn profile(&self) -> Profile<'_>;

    /// What the checkpoint's image processor does.
    ///
    /// # Errors
    /// A missing or broken file, an unsupported setting, a disagreement between files.
    fn reader(&self, files: &Files) -> Result<Box<dyn Reader>>;

    /// The rows of an image or a video, by what is known without its processor's files and without its pixels.
    ///
    /// # Errors
    /// A size or a grid that the family does not take.
    fn packing(&self, image: &Outline) -> Result<Packing>;

    /// How many frames a video of so many rows has, where no grid tells.
    fn frames(&self, rows: usize) -> usize {
        rows
    }

    /// Where the rows of a prompt stand, its placeholders expanded: ids \[n\] → of n rows.
    fn positions(&self, ids: &[u32], _images: &[PreparedImage]) -> Positions {
        Positions::in_order(ids.len())
    }

    /// The conversation template of the family's own code, in checkpoints that name one instead of bringing a chat template.
    ///
    /// # Errors
    /// A name that is none. Spec: T4.9
    fn conversation(&self, _files: &Files) -> Result<Option<Conversation>> {
        Ok(None)
    }

    /// A token that ends an answer in the family's own code, whatever `generation_config.json` says. Spec: T4.9
    ///
    /// # Errors
    /// A file that is no JSON.
    fn end(&self, _files: &Files) -> Result<Option<u32>> {
        Ok(None)
    }

    /// Takes everything before the language model from a checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration says.
    fn encoder(&self, names: &Names<'_>) -> Result<Box<dyn Encoder>>;

    /// What is to be said of the vision side beside the tower's sizes, for people.
    fn vision_words(&self) -> String;

    /// The same for programs: an object.
    fn vision_fields(&self) -> Value;

    /// What comes before the language model, in a line.
    fn vision_line(&self) -> String {
        let Tower { layers, used, hidden, heads, intermediate, .. } = self.profile().tower;
        let words = self.vision_words();
        format!("{layers} layers ({used} used), hidden {hidden}, {heads} heads, MLP {intermediate}, {words}")
    }

    /// The same for programs: an object.
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

    /// The language model's part.
    fn text(&self) -> &DecoderConfig {
        self.profile().text
    }

    /// The id that stands for a visual row in the prompt.
    fn image_token(&self) -> u32 {
        self.profile().image_token
    }

    /// The id that stands for a visual row in these ids: of an image, or, where there is no image, of a video.
    fn visual_token(&self, ids: &[u32]) -> u32 {
        let Profile { image_token, video_token, .. } = self.profile();
        video_token.filter(|video| ids.contains(video) && !ids.contains(&image_token)).unwrap_or(image_token)
    }
}

impl dyn Family {
    /// The configuration itself, where the family is an `F`.
    pub fn as_a<F: Family>(&self) -> Option<&F> {
        (self as &dyn Any).downcast_ref()
    }
}

/// What a family says of itself in plain data.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// The `model_type`.
    pub name: &'static str,
    /// The language model's part.
    pub text: &'a DecoderConfig,
    /// The vision tower's sizes.
    pub tower: Tower,
    /// The id that stands for a visual row in the prompt.
    pub image_token: u32,
    /// The id that stands for a row of a video in the prompt, in families that read videos.
    pub video_token: Option<u32>,
    /// One of our names of tensors → the names that checkpoints may use for it, in order of preference.
    pub names: fn(&str) -> Vec<String>,
    /// How pixels lie.
    pub pixels: PixelLayout,
}

/// Sizes of a vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tower {
    /// Layers in the checkpoint.
    pub layers: usize,
    /// Those that are computed: layers after the last one needed are not.
    pub used: usize,
    /// d_v: width of a row.
    pub hidden: usize,
    /// Number of heads.
    pub heads: usize,
    /// Width of its MLP.
    pub intermediate: usize,
    /// p: side of a patch in pixels.
    pub patch: usize,
}

/// An image or a video of which everything is known but the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Height and width as decoded.
    pub size: (usize, usize),
    /// Time, height and width in patches, in families that read images of any size.
    pub grid: Option<[usize; 3]>,
    /// How many images the prompt has, this one among them.
    pub of: usize,
    /// How many frames, where it is a video.
    pub frames: Option<usize>,
}

/// What the registry knows of a family.
pub(crate) struct Entry {
    /// What people call it.
    pub title: &'static str,
    /// Whether it reads videos here.
    pub videos: bool,
    /// Its `model_type`s, and how each is read.
    pub kinds: &'static [(&'static str, Read)],
    /// The shapes of public models of it.
    pub shapes: &'static [Shape],
}

/// Reads and checks a `config.json`; some families read other files too.
pub(crate) type Read = fn(&Files, &Scope<'_>) -> Result<Arc<dyn Family>>;

/// The shape of a public model, to be measured without its weights. Source: its `config.json` on the Hugging Face hub.
pub(crate) struct Shape {
    /// What it is called.
    pub name: &'static str,
    /// The language model: hidden, MLP, layers, heads, KV heads.
    pub sizes: [usize; 5],
    /// V: number of token ids.
    pub vocab: usize,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// The whole `config.json`, from these and the number of token ids; what is left out is transformers' default.
    pub config: Whole,
}

/// See [`Shape::config`].
pub(crate) type Whole = fn(&Shape, usize) -> Value;
