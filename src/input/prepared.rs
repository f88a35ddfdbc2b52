//! Everything the model reads: ids, roles, positions, and the pixels of the images.

use super::packing::Packing;
use super::positions::Positions;
use crate::roles::Roles;
use ndarray::{Array, Array2, Array4, ArrayD, Axis, Dimension, concatenate};

/// One image or video, ready for the vision tower.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// Height and width as decoded; of a video those of every frame.
    pub size: (usize, usize),
    /// Time, height and width in patches, in families that read images of any size.
    pub grid: Option<[usize; 3]>,
    /// Normalised pixels, as the family's processor gives those of one image: [tiles, 3, S, S], or [patches, numbers of a
    /// patch]; see [`PixelLayout`](super::PixelLayout).
    pub pixels: ArrayD<f32>,
    /// The rows that the image puts into the prompt.
    pub packing: Packing,
    /// sha-256 of the file, or of the decoded pixels where there was no file; of a video that of its frames' one after the other.
    pub sha256: String,
}

impl PreparedImage {
    /// The pixels of several images, of which there is at least one, one after the other.
    ///
    /// # Panics
    /// Where the tiles or patches of one are of another shape than those of the next (D4.5).
    pub fn joined<D: Dimension>(images: &[PreparedImage]) -> Array<f32, D> {
        let pixels: Vec<_> = images.iter().map(|image| image.pixels.view()).collect();
        let joined = concatenate(Axis(0), &pixels).ok().and_then(|pixels| pixels.into_dimensionality().ok());
        joined.unwrap_or_else(|| unreachable!("D4.5: tiles or patches of one shape"))
    }
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

    /// Patches [patches, numbers of a patch] of an image of `size` = (height, width); grid: time, height, width in patches.
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

impl Prepared {
    /// The packed rows of all images, in prompt order: entry v belongs to visual token v.
    pub fn visual_rows(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.images.iter().enumerate().flat_map(|(i, image)| (0..image.packing.rows.len()).map(move |r| (i, r)))
    }
}
