//! From images and a prompt to what the model reads: tiles of pixels, token ids, roles, positions.
//!
//! The core part takes pixels and ids ([`Prepared::from_ids`]). Feature `input` adds image files, chat templates and
//! tokenizers, joined in [`Processor`], which gives what `AutoProcessor` gives. Spec: chapter 04

pub mod anyres;
mod family;
pub mod image;
pub mod internvl;
pub mod llava_onevision;
pub mod mrope;
pub mod packing;
pub mod pixels;
mod positions;
pub mod processor;
pub mod qwen2_vl;
mod section;
pub mod sizes;
pub mod tiling;
pub mod video;

#[cfg(feature = "input")]
mod bounds;
#[cfg(feature = "input")]
pub mod conversation;
#[cfg(feature = "input")]
mod decode;
#[cfg(feature = "input")]
pub mod dialogue;
#[cfg(feature = "input")]
mod formats;
#[cfg(feature = "input")]
mod jinja;
#[cfg(feature = "input")]
mod methods;
#[cfg(feature = "input")]
mod prepare;
#[cfg(feature = "input")]
mod program;
pub mod sentencepiece;
#[cfg(feature = "input")]
pub mod template;
#[cfg(feature = "input")]
pub mod tokenizer;
#[cfg(feature = "input")]
mod tokenizer_bounds;
#[cfg(feature = "input")]
pub mod tokenizer_model;
#[cfg(feature = "input")]
mod vocabulary;

pub use anyres::Anyres;
pub use family::Reader;
pub use image::Image;
pub use packing::{Moment, PackedRow, Packing};
pub use positions::Positions;
#[cfg(feature = "input")]
pub use prepare::Processor;
#[cfg(feature = "input")]
pub use tokenizer::{TokenStream, Tokenizer};

use crate::config::{DecoderConfig, FamilyConfig};
use crate::error::{Result, ensure};
use crate::roles::{Role, Roles};
use ndarray::{Array2, Array4, ArrayD};

/// One image or video, ready for the vision tower.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// Height and width as decoded; of a video those of every frame.
    pub size: (usize, usize),
    /// Time, height and width in patches, in families that read images of any size.
    pub grid: Option<[usize; 3]>,
    /// pixels, normalised, as the family's processor gives those of one image: [tiles, 3, S, S]; Qwen2-VL: [patches,
    /// 3 · temporal · p²].
    pub pixels: ArrayD<f32>,
    /// The rows that the image puts into the prompt.
    pub packing: Packing,
    /// sha-256 of the file, or of the decoded pixels where there was no file; of a video that of its frames' one after the other.
    pub sha256: String,
}

/// Pixels of one image from elsewhere, and what tells how they lie.
#[derive(Debug, Clone)]
pub struct GivenImage {
    /// As the family's processor gives them: see [`PreparedImage::pixels`].
    pub pixels: ArrayD<f32>,
    /// Height and width as decoded.
    pub size: (usize, usize),
    /// See [`PreparedImage::grid`].
    pub grid: Option<[usize; 3]>,
}

impl GivenImage {
    /// Tiles [tiles, 3, S, S] of an image of `size` = (height, width).
    pub fn tiles(pixels: Array4<f32>, size: (usize, usize)) -> GivenImage {
        GivenImage { pixels: pixels.into_dyn(), size, grid: None }
    }

    /// Patches [patches, 3 · temporal · p²] of an image of `size` = (height, width); grid: time, height, width in patches.
    pub fn patches(pixels: Array2<f32>, size: (usize, usize), grid: [usize; 3]) -> GivenImage {
        GivenImage { pixels: pixels.into_dyn(), size, grid: Some(grid) }
    }
}

/// Everything the model reads.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Prompt token ids, image placeholders expanded: `[n]`.
    pub ids: Vec<u32>,
    /// What each prompt row is: `[n]`.
    pub roles: Roles,
    /// Where each prompt row stands.
    pub positions: Positions,
    /// The images, in prompt order.
    pub images: Vec<PreparedImage>,
    /// The prompt as the template rendered it, before placeholders were expanded; empty where ids came in.
    pub prompt: String,
    /// The resampler the pixels went through; empty where pixels came in.
    pub preprocess: String,
}

/// Fails where a prompt of `tokens`, `visual` of them rows of images, is longer than the model's positions.
fn fits(text: &DecoderConfig, tokens: usize, visual: usize) -> Result<()> {
    ensure!(
        tokens <= text.longest(),
        "prompt",
        format!("at most max_position_embeddings = {} tokens", text.max_positions),
        format!("{tokens}, {visual} of them visual"),
        "shorten the prompt or pass fewer or smaller images"
    );
    Ok(())
}

impl Prepared {
    /// A prompt of token ids and the pixels of its images, for callers who have both (core, no feature needed).
    ///
    /// `ids` holds one placeholder an image, or as many as the image has rows. With the placeholder of videos the one "image" is a
    /// video: its frames in order, in the place of tiles, or a grid with their time. Spec: D4.8
    ///
    /// # Errors
    /// Placeholders that fit neither count (both are named), pixels of another shape than the size asks for, an id
    /// beyond the vocabulary, a prompt longer than the model's positions. Spec: E4.8, C4.8a
    pub fn from_ids(config: &FamilyConfig, ids: &[u32], images: Vec<GivenImage>) -> Result<Prepared> {
        let (of, film) = (images.len(), config.visual_token(ids) != config.image_token());
        let image = |(i, image)| family::given(config, image, (of, film)).map_err(|e| e.within(format!("image {i}")));
        let images = images.into_iter().enumerate().map(image).collect::<Result<Vec<_>>>()?;
        Prepared::assemble(config, ids, images)
    }

    /// Expands the placeholders in `ids` to the rows of `images`, and checks the lengths. Spec: E4.8, C4.8a, C4.8b
    fn assemble(config: &FamilyConfig, ids: &[u32], images: Vec<PreparedImage>) -> Result<Prepared> {
        let (image_token, text) = (config.visual_token(ids), config.text());
        let rows: usize = images.iter().map(|i| i.packing.rows.len()).sum();
        let placeholders = ids.iter().filter(|&&id| id == image_token).count();
        ensure!(
            placeholders == images.len() || placeholders == rows,
            "prompt",
            format!("{} image placeholders, one an image, or {rows}, one a visual row", images.len()),
            placeholders,
            "put as many placeholders into the prompt as there are images, or none"
        );
        let mut sizes = images.iter().map(|i| i.packing.rows.len());
        let expand = placeholders != rows;
        let ids: Vec<u32> = ids
            .iter()
            .flat_map(|&id| {
                let visual = expand && id == image_token;
                std::iter::repeat_n(id, if visual { sizes.next().unwrap_or(1) } else { 1 })
            })
            .collect();
        if let Some(i) = ids.iter().position(|&id| id as usize >= text.vocab) {
            let vocab = format!("ids below the vocabulary's {}", text.vocab);
            return Err(crate::Error::new(format!("prompt: token {i}"), vocab, ids[i]));
        }
        ensure!(!ids.is_empty(), "prompt", "at least one token", "none");
        fits(text, ids.len(), rows)?;
        let role = |&id: &u32| if id == image_token { Role::Visual } else { Role::Text };
        Ok(Prepared {
            roles: Roles(ids.iter().map(role).collect()),
            positions: family::positions(config, &ids, &images),
            ids,
            images,
            prompt: String::new(),
            preprocess: String::new(),
        })
    }

    /// The packed rows of all images, in prompt order: entry v belongs to visual token v.
    pub fn visual_rows(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.images.iter().enumerate().flat_map(|(i, image)| (0..image.packing.rows.len()).map(move |r| (i, r)))
    }
}
