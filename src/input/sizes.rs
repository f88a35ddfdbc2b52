//! Smart resize: the size at which an image is read in whole squares of patches, and the resulting rows. This file
//! touches no pixels.
//!
//! The arithmetic is Python's float64. Source: transformers 5.17 `smart_resize`. Spec: E4.12, D4.5, C4.15a

use super::packing::{Moment, PackedRow, Packing};
use super::settings::Limits;
use crate::error::{Result, ensure};

/// The settings that determine the size at which images are read. Spec: E4.12
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// m: side in patches of the square that becomes one row.
    pub merge: usize,
    /// The fewest pixels an image is read at (`min_pixels`, or `shortest_edge` of `size`).
    pub min_pixels: usize,
    /// The most pixels an image is read at (`max_pixels`, or `longest_edge` of `size`).
    pub max_pixels: usize,
}

/// The largest ratio of the longest side to the shortest side.
const MOST_STRETCHED: f64 = 200.0;
/// The most patches of an image. This limit is aircache's own: the largest limit of any published processor.
pub(crate) const MAX_PATCHES: usize = 1 << 16;
/// The most patches of a video. Each frame of a video attends only to itself.
pub(crate) const MAX_FILM_PATCHES: usize = 1 << 17;

impl Sizes {
    /// The sizes with the caller's limits.
    ///
    /// # Errors
    /// No pixels, or more at least than at most. Spec: D4.12
    pub(crate) fn limited(&self, limits: Limits) -> Result<Sizes> {
        let min_pixels = limits.min_pixels.unwrap_or(self.min_pixels);
        let max_pixels = limits.max_pixels.unwrap_or(self.max_pixels);
        let found = format!("{min_pixels} to {max_pixels}");
        let remedy = "a limit that is not given is the checkpoint's";
        ensure!(
            1 <= min_pixels && min_pixels <= max_pixels,
            "min_pixels, max_pixels",
            "1 <= min <= max",
            found,
            remedy
        );
        Ok(Sizes { min_pixels, max_pixels, ..*self })
    }

    /// Side in pixels of the square that becomes one row. Sizes are multiples of it.
    pub fn unit(&self) -> usize {
        self.patch * self.merge
    }

    /// The size (height, width) at which an image of `size` is read.
    ///
    /// # Errors
    /// An empty image, or an image stretched more than 200 to 1; a size with too many patches. Spec: E4.12, C4.15a
    pub fn fit(&self, size: (usize, usize)) -> Result<(usize, usize)> {
        self.fitted(size, 1.0, 1.0)
    }

    /// The size of one of several frames, which together have at least and at most so many pixels. rounded_frames: the
    /// number of frames, rounded to whole patches.
    fn fitted(&self, size: (usize, usize), rounded_frames: f64, frames: f64) -> Result<(usize, usize)> {
        let (h, w) = (size.0 as f64, size.1 as f64);
        ensure!(size.0 > 0 && size.1 > 0, "image", "at least one pixel", format!("{} × {} pixels", size.0, size.1));
        let stretched = h.max(w) / h.min(w) > MOST_STRETCHED;
        ensure!(
            !stretched,
            "image",
            "a longest side of at most 200 times the shortest",
            format!("{} × {} pixels", size.0, size.1),
            "crop it; transformers refuses it too"
        );
        let unit = self.unit() as f64;
        let rounded = |side: f64| (side / unit).round_ties_even() * unit;
        let (mut fit_h, mut fit_w) = (rounded(h), rounded(w));
        if rounded_frames * fit_h * fit_w > self.max_pixels as f64 {
            let beta = (frames * h * w / self.max_pixels as f64).sqrt();
            let floor = |side: f64| ((side / beta / unit).floor() * unit).max(unit);
            (fit_h, fit_w) = (floor(h), floor(w));
        } else if rounded_frames * fit_h * fit_w < self.min_pixels as f64 {
            let beta = (self.min_pixels as f64 / (frames * h * w)).sqrt();
            let ceil = |side: f64| (side * beta / unit).ceil() * unit;
            (fit_h, fit_w) = (ceil(h), ceil(w));
        }
        let patches = fit_h / self.patch as f64 * (fit_w / self.patch as f64);
        let got = || format!("{fit_h} × {fit_w} pixels for an image of {} × {}", size.0, size.1);
        let few = patches <= MAX_PATCHES as f64;
        ensure!(few, "max_pixels", format!("at most {MAX_PATCHES} patches an image"), got());
        Ok((fit_h as usize, fit_w as usize))
    }

    /// The size at which the frames of a video are read, if its limits are those of all frames together. frames: their
    /// number; together: the frames of a patch; size: height and width of each.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); fewer frames than a patch has. Source: transformers `smart_resize` of `glm4v`. Spec: E4.31
    pub fn fit_clip(&self, frames: usize, together: usize, size: (usize, usize)) -> Result<(usize, usize)> {
        let want = format!("at least {together} frames");
        ensure!(frames >= together, "video", want, frames, "transformers refuses it too: give the frame twice");
        let unit = self.unit();
        let (mut h, mut w) = size;
        if h.min(w) > 0 && (h < unit || w < unit) {
            let scale = (unit as f64 / h as f64).max(unit as f64 / w as f64);
            (h, w) = ((h as f64 * scale) as usize, (w as f64 * scale) as usize);
        }
        let moments = (frames as f64 / together as f64).round_ties_even() * together as f64;
        self.fitted((h, w), moments, frames as f64)
    }

    /// The rows of an image of `size` that is read at `read`: squares of patches, row by row. For a video: moment by
    /// moment, with `times` moments of `frames` frames each. Spec: D4.5
    pub(crate) fn packing(
        &self,
        size: (usize, usize),
        read: (usize, usize),
        (times, frames): (usize, Option<usize>),
    ) -> Packing {
        let (height, width) = (read.0 / self.unit(), read.1 / self.unit());
        let span = |i: usize, side: usize, read: usize| {
            let at = |i: usize| (i * self.unit()) as f64 * side as f64 / read as f64;
            (at(i), at(i + 1))
        };
        let all = times * height * width;
        let rows = (0..all).map(|token| PackedRow::Token { tile: 0, token }).collect();
        let region = |i: usize| {
            let (y, x) = (i / width % height, i % width);
            let ((top, bottom), (left, right)) = (span(y, size.0, read.0), span(x, size.1, read.1));
            Some([top, left, bottom, right])
        };
        let moment = frames.map(|frames| Moment { rows: height * width, frames });
        let regions = (0..all).map(region).collect();
        Packing { base: 0, height: times * height, width, tiles: 1, rows, moment, regions }
    }
}
