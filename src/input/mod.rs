//! From images and a prompt to what the model reads: tiles of pixels, token ids, roles, positions.
//!
//! The core part takes pixels and ids ([`Prepared::from_ids`]). Feature `input` adds image files, chat templates and
//! tokenizers, joined in [`Processor`], which gives what `AutoProcessor` gives. Spec: chapter 04

pub mod anyres;
pub mod image;
pub mod packing;
pub mod pixels;
pub mod processor;

#[cfg(feature = "input")]
mod decode;
#[cfg(feature = "input")]
mod formats;
#[cfg(feature = "input")]
mod jinja;
#[cfg(feature = "input")]
mod methods;
#[cfg(feature = "input")]
mod prepare;
#[cfg(feature = "input")]
pub mod template;
#[cfg(feature = "input")]
pub mod tokenizer;

pub use anyres::Anyres;
pub use image::Image;
pub use packing::{PackedRow, Packing};
#[cfg(feature = "input")]
pub use prepare::Processor;
#[cfg(feature = "input")]
pub use tokenizer::{TokenStream, Tokenizer};

use crate::config::FamilyConfig;
use crate::error::{Result, ensure};
use crate::roles::{Role, Roles};
use ndarray::Array4;

/// The rotary positions of the prompt rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// One position a row.
    Linear(Vec<i64>),
    /// M-RoPE: time, height and width of each row.
    Mrope([Vec<i64>; 3]),
}

/// One image, ready for the vision tower.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// Height and width as decoded.
    pub size: (usize, usize),
    /// pixels: [tiles, 3, S, S], normalised; the base tile first.
    pub pixels: Array4<f32>,
    /// The rows that the image puts into the prompt.
    pub packing: Packing,
    /// sha-256 of the file, or of the decoded pixels where there was no file.
    pub sha256: String,
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

impl Prepared {
    /// A prompt of token ids and the pixels of its images, for callers who have both (core, no feature needed).
    ///
    /// `ids` holds one placeholder an image, or as many as the image has rows. `images`: pixels [tiles, 3, S, S] as the
    /// family's processor gives them, and height and width of the image as decoded.
    ///
    /// # Errors
    /// Placeholders that fit neither count (both are named), pixels of another shape than the size asks for, an id
    /// beyond the vocabulary, a prompt longer than the model's positions. Spec: E4.8, C4.8a
    pub fn from_ids(
        config: &FamilyConfig,
        ids: &[u32],
        images: Vec<(Array4<f32>, (usize, usize))>,
    ) -> Result<Prepared> {
        let FamilyConfig::LlavaOnevision(model) = config;
        let anyres = Anyres::from(model);
        let tiled = images.len() == 1;
        let mut prepared = Vec::with_capacity(images.len());
        for (i, (pixels, size)) in images.into_iter().enumerate() {
            let packing = anyres.packing(size, tiled).map_err(|e| e.within(format!("image {i}")))?;
            let want = [packing.tiles, 3, anyres.tile, anyres.tile];
            ensure!(
                pixels.shape() == want,
                format!("image {i}: pixels"),
                format!("the shape {want:?} of {} × {} pixels", size.0, size.1),
                format!("{:?}", pixels.shape())
            );
            let bytes: Vec<u8> = pixels.iter().flat_map(|v| v.to_le_bytes()).collect();
            prepared.push(PreparedImage { size, pixels, packing, sha256: image::sha256(&bytes) });
        }
        Prepared::assemble(config, ids, prepared)
    }

    /// Expands the placeholders in `ids` to the rows of `images`, and checks the lengths. Spec: E4.8, C4.8a, C4.8b
    fn assemble(config: &FamilyConfig, ids: &[u32], images: Vec<PreparedImage>) -> Result<Prepared> {
        let FamilyConfig::LlavaOnevision(model) = config;
        let rows: usize = images.iter().map(|i| i.packing.rows.len()).sum();
        let placeholders = ids.iter().filter(|&&id| id == model.image_token).count();
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
                let visual = expand && id == model.image_token;
                std::iter::repeat_n(id, if visual { sizes.next().unwrap_or(1) } else { 1 })
            })
            .collect();
        if let Some(i) = ids.iter().position(|&id| id as usize >= model.text.vocab) {
            let vocab = format!("ids below the vocabulary's {}", model.text.vocab);
            return Err(crate::Error::new(format!("prompt: token {i}"), vocab, ids[i]));
        }
        ensure!(!ids.is_empty(), "prompt", "at least one token", "none");
        ensure!(
            ids.len() <= model.text.max_positions,
            "prompt",
            format!("at most max_position_embeddings = {} tokens", model.text.max_positions),
            format!("{}, {rows} of them visual", ids.len()),
            "shorten the prompt or pass fewer or smaller images"
        );
        let role = |&id: &u32| if id == model.image_token { Role::Visual } else { Role::Text };
        Ok(Prepared {
            roles: Roles(ids.iter().map(role).collect()),
            positions: Positions::Linear((0..ids.len() as i64).collect()),
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
