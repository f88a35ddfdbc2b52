//! From images and a prompt to what the model reads: tiles of pixels, token ids, roles, positions.

use crate::roles::Roles;
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
    /// sha-256 of the file, or of the decoded pixels where there was no file.
    pub sha256: String,
}

/// Everything the model reads.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Prompt token ids, image placeholders expanded: [n].
    pub ids: Vec<u32>,
    /// What each prompt row is: [n].
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
