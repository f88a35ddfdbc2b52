//! CLIP's way to read an image: the shortest side is resized, and the square in the middle is one tile.
//!
//! Source: transformers 5.17 `CLIPImageProcessor` (`get_resize_output_image_size`, `center_crop`). Spec: E4.28

use super::packing::{PackedRow, Packing};
use super::pixels::{Pixels, normalised};
use crate::error::{Result, ensure};
use crate::kernel::resample::resize;
use ndarray::{Array3, Array4, ArrayView3, s};

/// The settings that determine the square. Spec: T4.12, E4.28
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crop {
    /// The length to which the shortest side is resized; `None`: the whole image is squeezed into the square.
    pub edge: Option<usize>,
    /// Whether the square in the middle is cut out.
    pub cut: bool,
    /// S: the side of the square in pixels.
    pub side: usize,
    /// p: the side of a patch in pixels.
    pub patch: usize,
    /// Whether the tower's first token, the class token, becomes a row too.
    pub class: bool,
}

/// The most pixels of a resized image.
const MOST: usize = 1 << 26;

impl Crop {
    /// The size (height, width) to which an image is resized; its own size if `resized` is false.
    ///
    /// # Errors
    /// An empty image; an image so stretched that its resized form is too large. Spec: E4.28
    pub fn size(&self, resized: bool, (h, w): (usize, usize)) -> Result<(usize, usize)> {
        ensure!(h > 0 && w > 0, "image", "at least one pixel", format!("{h} × {w} pixels"));
        let Some(edge) = self.edge.filter(|_| resized) else {
            return Ok(if resized { (self.side, self.side) } else { (h, w) });
        };
        let long = ((edge as f64 * h.max(w) as f64) / h.min(w) as f64) as usize;
        let few = long.saturating_mul(edge) <= MOST;
        ensure!(few, "image", format!("at most {MOST} pixels when resized"), format!("{edge} × {long}"), "crop it");
        Ok(if w <= h { (long, edge) } else { (edge, long) })
    }

    /// Where a side of `n` pixels lies in the square: (pixels left out before it, pixels of zeros before it).
    fn shift(&self, n: usize) -> (usize, usize) {
        (n.saturating_sub(self.side) / 2, self.side.saturating_sub(n) / 2)
    }

    /// The tile of `rgb` [h, w, 3]: [1, 3, S, S].
    ///
    /// # Errors
    /// As [`size`](Self::size); an image that is not cut and is no square of S pixels. Spec: E4.28
    pub(crate) fn tile(&self, pixels: &Pixels, rgb: ArrayView3<'_, u8>) -> Result<Array4<f32>> {
        let (h, w, _) = rgb.dim();
        let (size, side) = (self.size(pixels.resize, (h, w))?, self.side);
        let want = format!("images that are {side} × {side} pixels after resizing");
        ensure!(self.cut || size == (side, side), "do_center_crop: false", want, format!("{} × {}", size.0, size.1));
        let read = if pixels.resize { resize(rgb, size, pixels.filter, pixels.resampler)? } else { rgb.to_owned() };
        let mut square = Array3::zeros((side, side, 3));
        let ((skip_y, top), (skip_x, left)) = (self.shift(size.0), self.shift(size.1));
        let (height, width) = (size.0.min(side), size.1.min(side));
        let seen = read.slice(s![skip_y..skip_y + height, skip_x..skip_x + width, ..]);
        square.slice_mut(s![top..top + height, left..left + width, ..]).assign(&seen);
        Ok(normalised(&pixels.levels(), &[square.view()], side))
    }

    /// The rows of an image of `size` = (height, width), row by row; the class token's row, which saw all, comes first.
    ///
    /// # Errors
    /// As [`size`](Self::size). Spec: E4.28
    pub fn packing(&self, resized: bool, size: (usize, usize)) -> Result<Packing> {
        let read = self.size(resized, size)?;
        let (along, base) = (self.side / self.patch, usize::from(self.class));
        let span = |i: usize, read: usize, n: usize| {
            let (skip, zeros) = self.shift(read);
            let at = |pixel: usize| {
                let inside = (pixel + skip) as f64 - zeros as f64;
                (inside * n as f64 / read as f64).clamp(0.0, n as f64)
            };
            (at(i * self.patch), at((i + 1) * self.patch))
        };
        let region = |i: usize| {
            let Some(i) = i.checked_sub(base) else { return Some([0.0, 0.0, size.0 as f64, size.1 as f64]) };
            let (top, bottom) = span(i / along, read.0, size.0);
            let (left, right) = span(i % along, read.1, size.1);
            (top < bottom && left < right).then_some([top, left, bottom, right])
        };
        let all = base + along * along;
        Ok(Packing {
            base,
            height: along,
            width: along,
            tiles: 1,
            rows: (0..all).map(|token| PackedRow::Token { tile: 0, token }).collect(),
            moment: None,
            regions: (0..all).map(region).collect(),
        })
    }
}
