//! The grid of tiles of an image, and the resulting prompt rows.
//!
//! The arithmetic is Python's float64. This file touches no pixels. Source: OpenGVLab's `find_closest_aspect_ratio`,
//! `dynamic_preprocess`; transformers 5.17 `get_optimal_tiled_canvas`. Spec: E4.15, E4.16

use super::packing::{PackedRow, Packing};
use super::settings;
use crate::config::json::{self, Scope};
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use serde_json::Value;

/// The settings that determine tiles and rows. Spec: T4.8
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiling {
    /// S: side of a tile in pixels.
    pub tile: usize,
    /// Side in pixels of the square that becomes one row. Pixels at the right and bottom of a tile that fill no whole
    /// square are not seen.
    pub unit: usize,
    /// Rows along a side of a tile.
    pub along: usize,
    /// Whether the rows of a tile follow its columns from top to bottom (column-major).
    pub transposed: bool,
    /// The fewest and the most tiles, without the tile of the whole image; `None` means one tile.
    pub tiles: Option<(usize, usize)>,
    /// Whether a tile of the whole image follows if there are several tiles.
    pub thumbnail: bool,
}

/// The most pixels of a grid of tiles.
const MAX_CANVAS: usize = 1 << 28;

impl Tiling {
    /// The largest number of tiles of an image, for one call.
    ///
    /// # Errors
    /// Images are not cut; a number that is too small, or larger than `limit`.
    pub fn limit(&mut self, most: usize, limit: usize) -> Result<()> {
        let Some((few, _)) = self.tiles else {
            let remedy = "set dynamic_image_size in config.json";
            return Err(Error::new("max_tiles", "a checkpoint that cuts images into tiles", most).remedy(remedy));
        };
        ensure!((few..=limit).contains(&most), "max_tiles", format!("a number from {few} to {limit}"), most);
        self.tiles = Some((few, most));
        Ok(())
    }

    /// The rule in a line, for `inspect`.
    pub fn line(&self) -> String {
        let Tiling { tile, along, tiles, thumbnail, .. } = self;
        let cut = match tiles {
            Some((few, most)) => format!("{few} to {most} tiles of {tile} px, in the grid whose shape is closest"),
            None => format!("one tile of {tile} px"),
        };
        let whole = if *thumbnail && tiles.is_some() { "; several tiles: one more of the whole image" } else { "" };
        format!("{cut}{whole}; a tile becomes {along} × {along} tokens")
    }

    /// The grid of an image of `size` = (height, width): (tiles high, tiles wide).
    ///
    /// # Errors
    /// An empty image, a grid of more than 2^28 pixels. Spec: E4.15, C4.17a
    pub fn grid(&self, size: (usize, usize)) -> Result<(usize, usize)> {
        let (h, w) = size;
        ensure!(h > 0 && w > 0, "image", "at least one pixel", format!("{h} × {w} pixels"));
        let Some((few, most)) = self.tiles else { return Ok((1, 1)) };
        let (ratio, area) = (w as f64 / h as f64, (h as f64) * (w as f64));
        let (mut best, mut least) = ((1, 1), f64::INFINITY);
        let shapes = (few..=most).flat_map(|n| (1..=n).filter(move |i| n.is_multiple_of(*i)).map(move |i| (i, n / i)));
        for (across, down) in shapes {
            let off = (ratio - across as f64 / down as f64).abs();
            let large = area > 0.5 * (self.tile * self.tile * across * down) as f64;
            if off < least || (off == least && large) {
                (best, least) = ((down, across), off);
            }
        }
        let pixels = best.0 * best.1 * self.tile * self.tile;
        ensure!(pixels <= MAX_CANVAS, "max_dynamic_patch", format!("grids of at most {MAX_CANVAS} pixels"), pixels);
        Ok(best)
    }

    /// Whether a tile of the whole image follows the tiles of a grid.
    pub fn has_thumbnail(&self, grid: (usize, usize)) -> bool {
        self.thumbnail && grid.0 * grid.1 > 1
    }

    /// The rows of an image of `size` = (height, width), tile by tile.
    ///
    /// # Errors
    /// As [`grid`](Self::grid). Spec: E4.16
    pub fn packing(&self, size: (usize, usize)) -> Result<Packing> {
        let grid = self.grid(size)?;
        let whole = self.has_thumbnail(grid).then_some(((1, 1), (0, 0)));
        let cut = (0..grid.0 * grid.1).map(|i| (grid, (i / grid.1, i % grid.1)));
        let places: Vec<_> = cut.chain(whole).collect();
        let a_tile = self.along * self.along;
        let row = |i: usize| PackedRow::Token { tile: i / a_tile, token: i % a_tile };
        let region = |i: usize| {
            let ((down, across), (y, x)) = places[i / a_tile];
            let (first, second) = (i % a_tile / self.along, i % self.along);
            let (row, column) = if self.transposed { (second, first) } else { (first, second) };
            let [top, bottom] = self.span(row, y, size.0, down);
            let [left, right] = self.span(column, x, size.1, across);
            Some([top, left, bottom, right])
        };
        let rows = places.len() * a_tile;
        Ok(Packing {
            base: 0,
            height: 0,
            width: 0,
            tiles: places.len(),
            rows: (0..rows).map(row).collect(),
            moment: None,
            regions: (0..rows).map(region).collect(),
        })
    }

    /// The start and end, in an image of `side` pixels, of row or column `i` of tile `tile` of `tiles`.
    fn span(&self, i: usize, tile: usize, side: usize, tiles: usize) -> [f64; 2] {
        [i, i + 1].map(|i| (tile * self.tile + i * self.unit) as f64 * side as f64 / (tiles * self.tile) as f64)
    }
}

/// The minimum and maximum number of tiles in the image processor's file; no number may be above `limit`. Spec: T4.8
///
/// # Errors
/// A number of the wrong type or size; a minimum above the maximum.
pub(crate) fn limits(files: &Files, limit: usize) -> Result<(usize, usize)> {
    let (label, map) = (files.label(settings::PROCESSOR), json::load(files, settings::PROCESSOR)?.unwrap_or_default());
    let nested = Scope::new(&label, &map).object("image_processor")?;
    let (label, map) =
        (files.label(settings::PREPROCESSOR), json::load(files, settings::PREPROCESSOR)?.unwrap_or_default());
    let images = nested.unwrap_or_else(|| Scope::new(&label, &map));
    let count = |key: &str, default: usize| match images.get(key) {
        Some(Value::Null) => Ok(default),
        _ => images.size(key, default, (1, limit)),
    };
    let (few, most) = (count("min_patches", 1)?, count("max_patches", 12)?);
    ensure!(few <= most, images.at("min_patches"), format!("at most max_patches {most}"), few);
    Ok((few, most))
}
