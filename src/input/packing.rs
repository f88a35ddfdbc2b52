//! The rows that one image puts into the prompt, in order, and the part of the image that each row saw.
//!
//! Indices and weights only: the model gathers features with them, `explain` draws with them.
//! Spec: E4.7, E4.8, D4.1

use std::ops::Range;

/// Where one visual row comes from. Spec: D4.1
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PackedRow {
    /// The projected feature `token` of `tile` as it is; tiles as in the pixels, tokens row-major, counted after the
    /// first was dropped where the checkpoint drops it.
    Token {
        /// Index of the tile; 0 is the base tile.
        tile: usize,
        /// Index of the token among those kept of the tile.
        token: usize,
    },
    /// The sum of four features (tile, token, weight): top left, top right, bottom left, bottom right. Spec: E4.7
    Blend([(usize, usize, f64); 4]),
    /// The checkpoint's newline vector.
    Newline,
}

/// The rows of one image. Spec: E4.8, D4.1
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// Rows of an overview that comes before the token grid (a base tile): the first `base` of `rows`.
    pub base: usize,
    /// Rows of the token grid; 0 where there is none. A newline may follow each.
    pub height: usize,
    /// Columns of the token grid, newlines not counted; 0 where there is none.
    pub width: usize,
    /// Tiles of the image, of which rows name tokens.
    pub tiles: usize,
    /// All rows in prompt order.
    pub rows: Vec<PackedRow>,
    /// How rows belong to frames, where they are of a video.
    pub moment: Option<Moment>,
    /// What each row saw of the image; see [`Packing::region`].
    pub(super) regions: Vec<Option<[f64; 4]>>,
}

/// What a moment of a video is: the next `rows` rows saw the next `frames` frames. Spec: D4.8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Rows of each moment.
    pub rows: usize,
    /// Frames of each moment; the last may lack some.
    pub frames: usize,
}

impl Packing {
    /// The frames of a video that `row` saw, counted from 0, as if there were enough of them; of an image 0 alone. Spec: D4.8
    pub fn frames(&self, row: usize) -> Range<usize> {
        let Some(Moment { rows, frames }) = self.moment else { return 0..1 };
        let first = row / rows.max(1) * frames;
        first..first + frames
    }

    /// The rectangle [top, left, bottom, right] of the image, in its own pixels, that `row` stands for: the patch of a
    /// token, a blend's share of the grid. Clipped to the image; `None` for newlines, for patches that show padding only,
    /// and past the last row. Spec: D4.1
    pub fn region(&self, row: usize) -> Option<[f64; 4]> {
        self.regions.get(row).copied().flatten()
    }
}
