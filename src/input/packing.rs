//! The rows that one image adds to the prompt, in order, and the part of the image that each row saw.
//!
//! This file holds only indices and weights: the model gathers features with them, `explain` draws with them.
//! Spec: E4.7, E4.8, D4.1

use std::ops::Range;

/// The source of one visual row. Spec: D4.1
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PackedRow {
    /// The projected feature `token` of `tile`, unchanged. Tiles have the order of the pixels; tokens are row-major. If
    /// the checkpoint drops the first token of each tile, index 0 is the token after the dropped token.
    Token {
        /// Index of the tile; 0 is the base tile.
        tile: usize,
        /// Index of the token among the tile's kept tokens.
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
    /// The number of rows of an overview (a base tile) before the token grid: the first `base` of `rows`.
    pub base: usize,
    /// Rows of the token grid; 0 if there is no grid. A newline may follow each row.
    pub height: usize,
    /// Columns of the token grid, without newlines; 0 if there is no grid.
    pub width: usize,
    /// Tiles of the image; the rows refer to their tokens.
    pub tiles: usize,
    /// All rows in prompt order.
    pub rows: Vec<PackedRow>,
    /// How rows map to the frames of a video; `None` for an image.
    pub moment: Option<Moment>,
    /// The rectangle of the image that each row saw; see [`Packing::region`].
    pub(super) regions: Vec<Option<[f64; 4]>>,
}

/// A moment of a video: the next `rows` rows saw the next `frames` frames. Spec: D4.8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Rows of each moment.
    pub rows: usize,
    /// Frames of each moment; the last moment may have fewer.
    pub frames: usize,
}

impl Packing {
    /// A packing of tiles whose order in the prompt is not known: every row stands for the first token.
    pub(crate) fn unordered(tiles: usize, rows: usize) -> Packing {
        let rows = vec![PackedRow::Token { tile: 0, token: 0 }; rows];
        let regions = vec![None; rows.len()];
        Packing { base: 0, height: 0, width: 0, tiles, rows, moment: None, regions }
    }

    /// The frames of a video that `row` saw, counted from 0. The range may extend past the last frame. For an image the
    /// range holds only 0. Spec: D4.8
    pub fn frames(&self, row: usize) -> Range<usize> {
        let Some(Moment { rows, frames }) = self.moment else { return 0..1 };
        let first = row / rows.max(1) * frames;
        first..first + frames
    }

    /// The number of rows of each moment of a video; of an image, the number of all rows. Spec: D4.8
    pub fn moments(&self) -> Vec<usize> {
        let each = self.moment.map_or(self.rows.len(), |moment| moment.rows).max(1);
        self.rows.chunks(each).map(<[PackedRow]>::len).collect()
    }

    /// The rectangle [top, left, bottom, right] of the image, in the image's pixels, for `row`: a token's patch, or a
    /// blend's share of the grid. The rectangle is clipped to the image. `None` for newlines, for patches that show
    /// only padding, and past the last row. Spec: D4.1
    pub fn region(&self, row: usize) -> Option<[f64; 4]> {
        self.regions.get(row).copied().flatten()
    }
}
