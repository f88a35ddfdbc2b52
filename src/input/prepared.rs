//! The model's input: ids, roles, positions, and the pixels of the images.

use super::packing::Packing;
use super::positions::Positions;
use crate::roles::Roles;
use ndarray::{Array, Array2, Array4, ArrayD, Axis, Dimension, concatenate};

/// One image or video, ready for the vision tower.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// Height and width of the decoded image; for a video, of every frame.
    pub size: (usize, usize),
    /// Time, height and width in patches, for families that read images of any size.
    pub grid: Option<[usize; 3]>,
    /// Normalised pixels, in the layout of the family's processor for one image: [tiles, 3, S, S], or [patches, numbers
    /// of a patch]; see [`PixelLayout`](super::PixelLayout).
    pub pixels: ArrayD<f32>,
    /// How far the moments of a video stand apart in time, in positions, in families with M-RoPE. Spec: E4.30
    pub interval: f32,
    /// The rows that the image adds to the prompt.
    pub packing: Packing,
    /// sha-256 of the file, or of the decoded pixels if there was no file. For a video, the sha-256 of its frames'
    /// hashes one after the other.
    pub sha256: String,
}

impl PreparedImage {
    /// The pixels of several images, one image after the other. There must be at least one image.
    ///
    /// # Panics
    /// If the tiles or patches of the images have different shapes (D4.5).
    pub fn joined<D: Dimension>(images: &[PreparedImage]) -> Array<f32, D> {
        let pixels: Vec<_> = images.iter().map(|image| image.pixels.view()).collect();
        let joined = concatenate(Axis(0), &pixels).ok().and_then(|pixels| pixels.into_dimensionality().ok());
        joined.unwrap_or_else(|| unreachable!("D4.5: tiles or patches of one shape"))
    }
}

/// Pixels of one image that the caller gives, and the data that describes their layout.
#[derive(Debug, Clone)]
pub struct GivenImage {
    /// Pixels in the layout of the family's processor: see [`PreparedImage::pixels`].
    pub pixels: ArrayD<f32>,
    /// Height and width of the decoded image.
    pub size: (usize, usize),
    /// See [`PreparedImage::grid`].
    pub grid: Option<[usize; 3]>,
}

impl GivenImage {
    /// Tiles [tiles, 3, S, S] of an image of `size` = (height, width).
    pub fn tiles(pixels: Array4<f32>, size: (usize, usize)) -> GivenImage {
        GivenImage { pixels: pixels.into_dyn(), size, grid: None }
    }

    /// Patches [patches, numbers of a patch] of an image of `size` = (height, width).
    /// `grid`: time, height and width in patches.
    pub fn patches(pixels: Array2<f32>, size: (usize, usize), grid: [usize; 3]) -> GivenImage {
        GivenImage { pixels: pixels.into_dyn(), size, grid: Some(grid) }
    }
}

/// The model's input.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Prompt token ids with expanded image placeholders: `[n]`.
    pub ids: Vec<u32>,
    /// The role of each prompt row: `[n]`.
    pub roles: Roles,
    /// The position of each prompt row.
    pub positions: Positions,
    /// The images, in prompt order.
    pub images: Vec<PreparedImage>,
    /// The rendered prompt before placeholders were expanded; empty if the caller gave ids.
    pub prompt: String,
    /// The name of the resampler of the pixels; empty if the caller gave pixels.
    pub preprocess: String,
    /// What other decoders make of lossy images, if that was asked for. Spec: D4.18
    pub lossy: Option<Lossy>,
}

/// What other decoders make of the lossy images of a prompt. Spec: D4.18
#[derive(Debug, Clone)]
pub struct Lossy {
    /// The names of the lossy images.
    pub images: Vec<String>,
    /// For each image, each in the shape of [`PreparedImage::pixels`]: the least and the greatest number that a usual
    /// decoder gives; the same that any filter of chroma gives; the size of a grey level, 0 in an image that is not lossy.
    pub pixels: Vec<[ArrayD<f32>; 5]>,
}

impl Prepared {
    /// The packed rows of all images, in prompt order: entry v belongs to visual token v.
    pub fn visual_rows(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.images.iter().enumerate().flat_map(|(i, image)| (0..image.packing.rows.len()).map(move |r| (i, r)))
    }
}
