//! From an RGB image to the tiles of the vision tower: resize, pad, split, rescale and normalise.
//!
//! The result equals the output of transformers' image processor bit for bit: the torchvision processor by default, the
//! Pillow processor with that resampler (their last bits differ). Source: transformers 5.17
//! `image_processing_llava_onevision.py`, `image_processing_backends.py`, `image_transforms.py`.
//! Spec: E4.5, E4.9, E4.10

use super::anyres::Anyres;
use super::image::MAX_PIXELS;
use crate::error::{Error, Result, ensure};
use crate::kernel::resample::{Filter, Resampler, resize};
use ndarray::{Array3, Array4, ArrayView3, Axis, s};

/// How pixels are resized and normalised. Spec: T4.4
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Whether an image that is not tiled is resized to a tile (`do_resize`). A tiled image is always resized.
    pub resize: bool,
    /// The filter (`resample`).
    pub filter: Filter,
    /// The library whose resampler and whose rounding of the normalisation apply.
    pub resampler: Resampler,
    /// The factor before normalising (`rescale_factor`); `None` if `do_rescale` is off.
    pub rescale: Option<f64>,
    /// Mean of each channel. Padding to a square uses this colour.
    pub mean: [f64; 3],
    /// Standard deviation of each channel.
    pub std: [f64; 3],
    /// Whether mean and deviation are applied (`do_normalize`).
    pub normalize: bool,
    /// Whether a level is computed in float64 and rounded once, with any resampler. Spec: A4.7
    pub exact: bool,
}

impl Pixels {
    /// Bicubic as Pillow resizes, ImageNet's mean and deviation: the settings of a family whose code names none. Spec: T4.8
    pub const IMAGENET: Pixels = Pixels {
        resize: true,
        filter: Filter::Bicubic,
        resampler: Resampler::Pillow,
        rescale: Some(1.0 / 255.0),
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        normalize: true,
        exact: true,
    };
    /// The default settings of transformers' processors of this kind: bicubic, CLIP's mean and deviation. Spec: T4.4
    pub const CLIP: Pixels = Pixels {
        resize: true,
        filter: Filter::Bicubic,
        resampler: Resampler::Torchvision,
        rescale: Some(1.0 / 255.0),
        mean: [0.48145466, 0.4578275, 0.40821073],
        std: [0.26862954, 0.26130258, 0.27577711],
        normalize: true,
        exact: false,
    };

    /// The tiles of `rgb` [h, w, 3]: [tiles, 3, S, S], base tile first. If `tiled` is false, there is only one tile.
    ///
    /// # Errors
    /// As [`Anyres::resolution`] and [`resize`]; an image whose padded square is larger than the largest allowed image.
    /// Spec: E4.10
    pub fn tiles(&self, rgb: ArrayView3<'_, u8>, anyres: &Anyres, tiled: bool) -> Result<Array4<f32>> {
        let (h, w, _) = rgb.dim();
        let side = anyres.tile;
        let scaled = |image: ArrayView3<'_, u8>, size| resize(image, size, self.filter, self.resampler);
        let levels = self.levels();
        if !tiled {
            let square = self.square(rgb)?;
            let tile = if self.resize { scaled(square.view(), (side, side))? } else { square };
            ensure!(
                tile.dim() == (side, side, 3),
                "do_resize: false",
                format!("images whose longer side is {side} pixels"),
                format!("{h} × {w}")
            );
            return Ok(normalised(&levels, &[tile.view()], side));
        }
        let target = anyres.resolution((h, w))?;
        let base = scaled(rgb, (side, side))?;
        let fitted = scaled(rgb, Anyres::fit((h, w), target))?;
        let (top, left) = ((target.0 - fitted.dim().0) / 2, (target.1 - fitted.dim().1) / 2);
        let mut canvas = Array3::zeros((target.0, target.1, 3));
        canvas.slice_mut(s![top..top + fitted.dim().0, left..left + fitted.dim().1, ..]).assign(&fitted);
        let mut tiles = vec![base.view()];
        for y in (0..target.0).step_by(side) {
            for x in (0..target.1).step_by(side) {
                tiles.push(canvas.slice(s![y..y + side, x..x + side, ..]));
            }
        }
        Ok(normalised(&levels, &tiles, side))
    }

    /// `rgb` in the middle of a square of the mean colour. An odd pixel of padding goes to the right or bottom.
    /// Spec: E4.10, C4.10a
    fn square(&self, rgb: ArrayView3<'_, u8>) -> Result<Array3<u8>> {
        let (h, w, _) = rgb.dim();
        if h == w {
            return Ok(rgb.to_owned());
        }
        let side = h.max(w);
        let fits = (side as u64).checked_mul(side as u64).is_some_and(|n| n <= MAX_PIXELS);
        ensure!(
            fits,
            "image",
            format!("a square around each of several images of at most {MAX_PIXELS} pixels"),
            format!("{h} × {w}"),
            "crop it, or pass it as the only image"
        );
        let mut square = Array3::zeros((side, side, 3));
        for (c, &mean) in self.mean.iter().enumerate() {
            let colour = (mean * 255.0).trunc();
            ensure!(
                (0.0..=255.0).contains(&colour),
                "image_mean",
                "means of 0 to 1, as several images are padded with the mean colour",
                mean
            );
            square.index_axis_mut(Axis(2), c).fill(colour as u8);
        }
        let (top, left) = ((side - h) / 2, (side - w) / 2);
        square.slice_mut(s![top..top + h, left..left + w, ..]).assign(&rgb);
        Ok(square)
    }

    /// The value of each of the 256 levels, for each channel. The arithmetic is per value, so a table is exact.
    /// Spec: E4.9
    pub fn levels(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| self.level(v as u8, c)))
    }

    fn level(&self, value: u8, channel: usize) -> f32 {
        let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
        let v = f32::from(value);
        if self.exact {
            let scaled = f64::from(value) / (1.0 / self.rescale.unwrap_or(1.0));
            return if self.normalize {
                ((scaled - self.mean[channel]) / self.std[channel]) as f32
            } else {
                scaled as f32
            };
        }
        match (self.resampler, self.rescale, self.normalize) {
            (_, None, false) => v,
            (_, None, true) => (v - mean) / std,
            // Torch folds the factor into mean and deviation: an f32 tensor times the double 1/factor cast to f32.
            (Resampler::Torchvision, Some(factor), true) => {
                let inverse = (1.0 / factor) as f32;
                (v - mean * inverse) / (std * inverse)
            }
            (Resampler::Torchvision, Some(factor), false) => v * factor as f32,
            // NumPy rescales in f64, stores f32, then normalises in f32.
            (_, Some(factor), normalize) => {
                let scaled = (f64::from(value) * factor) as f32;
                if normalize { (scaled - mean) / std } else { scaled }
            }
        }
    }
}

/// tiles: [S, S, 3] each → [tiles, 3, S, S] through the level tables.
pub(crate) fn normalised(levels: &[[f32; 256]; 3], tiles: &[ArrayView3<'_, u8>], side: usize) -> Array4<f32> {
    let mut out = Array4::zeros((tiles.len(), 3, side, side));
    for (mut planes, tile) in out.outer_iter_mut().zip(tiles) {
        for (c, level) in levels.iter().enumerate() {
            let mut plane = planes.index_axis_mut(Axis(0), c);
            plane.zip_mut_with(&tile.index_axis(Axis(2), c), |o, &v| *o = level[usize::from(v)]);
        }
    }
    out
}

impl Pixels {
    /// These settings. Fails if they would lead to a division by zero or contain a value that is not a finite number.
    ///
    /// # Errors
    /// The error names the field.
    pub fn checked(self) -> Result<Pixels> {
        if self.normalize {
            for (name, values, zero) in [("image_mean", self.mean, true), ("image_std", self.std, false)] {
                for v in values {
                    ensure!(v.is_finite() && (zero || v != 0.0), name, "finite numbers, no deviation of 0", v);
                }
            }
        }
        match self.rescale {
            Some(f) if !(f.is_finite() && f != 0.0) => {
                Err(Error::new("rescale_factor", "a finite number that is not 0", f))
            }
            _ => Ok(self),
        }
    }
}
