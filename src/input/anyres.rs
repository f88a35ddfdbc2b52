//! Anyres, the tiling geometry of the LLaVA family: the tile grid of an image and the number of its tokens.
//!
//! The arithmetic is Python's (float64, `//`, `round(x, 7)`), because one token more or less makes a different prompt.
//! This file touches no pixels and no features: [`super::pixels`] cuts the tiles, `anyres_rows.rs` lists the rows.
//! Source: transformers 5.17 `select_best_resolution`, `get_patch_output_size`, `unpad_image`, `pack_image_features`,
//! `_get_unpadded_features`. Spec: E4.4–E4.7

use crate::error::{Result, ensure};

/// The settings that determine tiles and tokens. Spec: T4.3
#[derive(Debug, Clone, PartialEq)]
pub struct Anyres {
    /// Resolutions (height, width) in pixels that an image may be tiled at, in the file's order. On a tie the first one
    /// wins.
    pub pinpoints: Vec<(usize, usize)>,
    /// S: side of a tile in pixels.
    pub tile: usize,
    /// Side of a patch in pixels. The tower does not see pixels at the right and bottom of a tile that fill no whole
    /// patch.
    pub patch: usize,
    /// N of `anyres_max_N`.
    pub max_tiles: usize,
    /// Whether the first token of every tile is dropped (`vision_feature_select_strategy` = `default`).
    pub drop_first: bool,
}

/// The most pixels a resolution of the grid may have. Spec: C4.4b
const MAX_CANVAS: usize = 1 << 26;
/// The most tiles of an image. With tiles of 384 pixels, `MAX_CANVAS` holds fewer tiles than this.
const MAX_TILES: usize = 1 << 10;

/// An integer of Python's float `a // b` (b > 0).
fn floor_div(a: f64, b: f64) -> f64 {
    let div = (a - a % b) / b;
    let floor = div.floor();
    if div - floor > 0.5 { floor + 1.0 } else { floor }
}

/// `int(round(x, 7))` as Python computes it: rounds the exact binary value to seven decimals, halves to even; x ≥ 0.
/// Spec: E4.6
fn int_of_round7(x: f64) -> usize {
    format!("{x:.7}").parse().map_or(0, |r: f64| r as usize)
}

/// The token grid after unpadding and after shrinking. Spec: E4.6, E4.7
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenGrid {
    /// Tokens cut off at the top (and at the bottom), and at the left (and at the right).
    pub cut: (usize, usize),
    /// Rows and columns after unpadding.
    pub unpadded: (usize, usize),
    /// Rows and columns after shrinking; equal to `unpadded` if nothing shrinks.
    pub shrunk: (usize, usize),
}

impl Anyres {
    /// Tokens along a side of a tile.
    pub fn side(&self) -> usize {
        self.tile / self.patch
    }

    /// The resolution (height, width) in pixels that an image of `size` = (height, width) is tiled at.
    ///
    /// # Errors
    /// An empty image, no pinpoints, or a resolution that is too large or not a whole number of tiles.
    /// Spec: E4.4, C4.4a
    pub fn resolution(&self, size: (usize, usize)) -> Result<(usize, usize)> {
        let (h, w) = size;
        ensure!(h > 0 && w > 0, "image", "at least one pixel", format!("{h} × {w} pixels"));
        let area = h as u128 * w as u128;
        let mut best: Option<((usize, usize), u128, i128)> = None;
        for &(height, width) in &self.pinpoints {
            let scale = (width as f64 / w as f64).min(height as f64 / h as f64);
            let (down_w, down_h) = ((w as f64 * scale) as u128, (h as f64 * scale) as u128);
            let effective = down_w.saturating_mul(down_h).min(area);
            let wasted = height as i128 * width as i128 - effective as i128;
            let better = match best {
                None => true,
                Some((_, e, waste)) => effective > e || (effective == e && wasted < waste),
            };
            if better {
                best = Some(((height, width), effective, wasted));
            }
        }
        let chosen = best.map_or((0, 0), |b| b.0);
        let whole = |n: usize| n > 0 && self.tile > 0 && n.is_multiple_of(self.tile);
        let squares = |side: usize| (chosen.0 / side).saturating_mul(chosen.1 / side);
        ensure!(
            whole(chosen.0) && whole(chosen.1) && squares(1) <= MAX_CANVAS && squares(self.tile) <= MAX_TILES,
            "image_grid_pinpoints",
            format!(
                "resolutions of at most {MAX_TILES} whole tiles of {} pixels, {MAX_CANVAS} pixels in all",
                self.tile
            ),
            format!("{} × {}", chosen.0, chosen.1)
        );
        Ok(chosen)
    }

    /// The grid of an image of `size` = (height, width): (tiles high, tiles wide), without the base tile.
    ///
    /// # Errors
    /// As [`Anyres::resolution`]. Spec: E4.4
    pub fn grid(&self, size: (usize, usize)) -> Result<(usize, usize)> {
        let (height, width) = self.resolution(size)?;
        Ok((height / self.tile, width / self.tile))
    }

    /// The size (height, width) of an image inside the resolution `target`, before padding. Spec: E4.5
    pub fn fit(size: (usize, usize), target: (usize, usize)) -> (usize, usize) {
        let (h, w) = (size.0 as f64, size.1 as f64);
        let (scale_h, scale_w) = (target.0 as f64 / h, target.1 as f64 / w);
        if scale_w < scale_h {
            (((h * scale_w).ceil() as usize).min(target.0), target.1)
        } else {
            (target.0, ((w * scale_h).ceil() as usize).min(target.1))
        }
    }

    /// The token grid of a tiled image of `size` = (height, width), before and after shrinking.
    ///
    /// # Errors
    /// As [`Anyres::resolution`]; an image whose shrunk grid has no row or no column. transformers fails on such an
    /// image too.
    /// Spec: E4.6, E4.7, C4.7a
    pub fn tokens(&self, size: (usize, usize)) -> Result<TokenGrid> {
        let (h, w) = (size.0 as f64, size.1 as f64);
        let (high, wide) = self.grid(size)?;
        let side = self.side();
        let (mut rows, mut cols) = (high * side, wide * side);
        let mut cut = (0, 0);
        if w / h > cols as f64 / rows as f64 {
            cut.0 = (rows - int_of_round7(h * (cols as f64 / w)).min(rows)) / 2;
            rows -= 2 * cut.0;
        } else {
            cut.1 = (cols - int_of_round7(w * (rows as f64 / h)).min(cols)) / 2;
            cols -= 2 * cut.1;
        }
        let unpadded = (rows, cols);
        let ratio = ((rows * cols) as f64 / (self.max_tiles * side * side) as f64).sqrt();
        let mut shrunk = unpadded;
        if ratio > 1.1 {
            shrunk = (floor_div(rows as f64, ratio) as usize, floor_div(cols as f64, ratio) as usize);
            ensure!(
                shrunk.0 > 0 && shrunk.1 > 0,
                "image",
                format!("a shape that keeps a token row and column when shrunk to {} tiles' worth", self.max_tiles),
                format!("{} × {} pixels, so {rows} × {cols} tokens", size.0, size.1),
                "crop the image; transformers fails on it too"
            );
        }
        Ok(TokenGrid { cut, unpadded, shrunk })
    }
}
