//! Qwen2-VL's side of the input: an image of any size in patches, in the order in which squares of them become rows.
//!
//! Source: transformers 5.17 `Qwen2VLImageProcessor`, `Qwen2VLImageProcessorPil`, `Qwen2VLProcessor`.
//! Spec: T4.7, E4.12, E4.13, D4.5

use super::pixels::Pixels;
use super::processor::{Settings, sections};
use super::section::Section;
use super::{GivenImage, Image, PackedRow, Packing, PreparedImage, image};
use crate::config::{Qwen2VlConfig, Qwen2VlVisionConfig};
use crate::error::{Result, ensure};
use crate::files::Files;
use crate::kernel::resample::resize;
use ndarray::{Array2, ArrayD, ArrayView3};

/// What a checkpoint's processor does with images.
#[derive(Debug, Clone)]
pub struct Reader {
    /// What its files say.
    pub settings: Settings,
    /// Which sizes images are read at.
    pub sizes: Sizes,
    temporal: usize,
}

/// Which sizes images are read at. Spec: E4.12
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// m: side in patches of the square that becomes one row.
    pub merge: usize,
    /// The fewest pixels an image is read at (`min_pixels`, or `shortest_edge` of `size`).
    pub min_pixels: usize,
    /// The most (`max_pixels`, or `longest_edge` of `size`).
    pub max_pixels: usize,
}

/// The longest side may be at most this many times the shortest.
const MOST_STRETCHED: f64 = 200.0;
/// The most patches of an image, ours: far more than any prompt has.
const MAX_PATCHES: usize = 1 << 18;

impl Sizes {
    /// Side in pixels of what becomes one row: sizes are multiples of it.
    pub fn unit(&self) -> usize {
        self.patch * self.merge
    }

    /// The size (height, width) at which an image of `size` is read.
    ///
    /// # Errors
    /// An empty image, or one stretched more than 200 to 1; a size beyond reason. Spec: E4.12, C4.15a
    pub fn fit(&self, size: (usize, usize)) -> Result<(usize, usize)> {
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
        if fit_h * fit_w > self.max_pixels as f64 {
            let beta = (h * w / self.max_pixels as f64).sqrt();
            let floor = |side: f64| ((side / beta / unit).floor() * unit).max(unit);
            (fit_h, fit_w) = (floor(h), floor(w));
        } else if fit_h * fit_w < self.min_pixels as f64 {
            let beta = (self.min_pixels as f64 / (h * w)).sqrt();
            let ceil = |side: f64| (side * beta / unit).ceil() * unit;
            (fit_h, fit_w) = (ceil(h), ceil(w));
        }
        let patches = fit_h / self.patch as f64 * (fit_w / self.patch as f64);
        let got = || format!("{fit_h} × {fit_w} pixels for an image of {} × {}", size.0, size.1);
        let few = patches <= MAX_PATCHES as f64;
        ensure!(few, "max_pixels", format!("at most {MAX_PATCHES} patches an image"), got());
        Ok((fit_h as usize, fit_w as usize))
    }

    /// The rows of an image of `size` that is read at `read`: squares of patches, row by row. Spec: D4.5
    fn packing(&self, size: (usize, usize), read: (usize, usize), frames: usize) -> Packing {
        let (height, width) = (read.0 / self.unit(), read.1 / self.unit());
        let span = |i: usize, side: usize, read: usize| {
            let at = |i: usize| (i * self.unit()) as f64 * side as f64 / read as f64;
            (at(i), at(i + 1))
        };
        let rows = (0..frames * height * width).map(|token| PackedRow::Token { tile: 0, token }).collect();
        let region = |i: usize| {
            let (y, x) = (i / width % height, i % width);
            let ((top, bottom), (left, right)) = (span(y, size.0, read.0), span(x, size.1, read.1));
            Some([top, left, bottom, right])
        };
        let regions = (0..frames * height * width).map(region).collect();
        Packing { base: 0, height: frames * height, width, tiles: 1, rows, regions }
    }
}

impl Reader {
    /// The reader of a checkpoint.
    ///
    /// # Errors
    /// As [`Settings`]; sizes that are none; a disagreement with `config.json`. Spec: T4.7, C4.12
    pub fn load(files: &Files, config: &Qwen2VlConfig) -> Result<Reader> {
        let (images, processor) = sections(files)?;
        let model = files.label("config.json");
        let kind = images.get("image_processor_type").map_or(Some("Qwen2VLImageProcessor"), |v| v.as_str());
        let known = kind.is_some_and(|k| k.starts_with("Qwen2VLImageProcessor"));
        ensure!(
            known,
            format!("{}: image_processor_type", images.at),
            "Qwen2VLImageProcessor",
            kind.unwrap_or("no name")
        );
        let side = |key: &str, default: u64, want: usize, theirs: &str| {
            let got = images.get(key).map_or(Some(default), |v| v.as_u64());
            let expected = format!("{want}, vision_config.{theirs} of {model}");
            if got == Some(want as u64) { Ok(want) } else { Err(images.wrong(key, &expected)) }
        };
        let v: &Qwen2VlVisionConfig = &config.vision;
        let patch = side("patch_size", 14, v.patch, "patch_size")?;
        let merge = side("merge_size", 2, v.merge, "spatial_merge_size")?;
        let temporal = side("temporal_patch_size", 2, v.temporal, "temporal_patch_size")?;
        let (min_pixels, max_pixels) = limits(&images)?;
        let sizes = Sizes { patch, merge, min_pixels, max_pixels };
        Ok(Reader { settings: Settings::read(&images, processor.as_ref(), Pixels::CLIP)?, sizes, temporal })
    }

    /// How an image becomes prompt rows, in a line.
    pub fn line(&self) -> String {
        let Sizes { min_pixels, max_pixels, .. } = self.sizes;
        let unit = self.sizes.unit();
        match self.settings.pixels.resize {
            true => format!(
                "read at a multiple of {unit} × {unit} px, of {min_pixels} to {max_pixels} pixels in all: a token each {unit} × {unit} px"
            ),
            false => format!("read as they are, in multiples of {unit} × {unit} px: a token each"),
        }
    }

    /// The size at which an image is read: its own where nothing is resized.
    fn read_at(&self, size: (usize, usize)) -> Result<(usize, usize)> {
        if self.settings.pixels.resize {
            return self.sizes.fit(size);
        }
        let unit = self.sizes.unit();
        ensure!(
            size.0 > 0 && size.1 > 0 && size.0.is_multiple_of(unit) && size.1.is_multiple_of(unit),
            "do_resize: false",
            format!("images whose sides are multiples of {unit} pixels"),
            format!("{} × {}", size.0, size.1)
        );
        Ok(size)
    }

    /// The rows of an image of `size` = (height, width).
    ///
    /// # Errors
    /// As [`Sizes::fit`].
    pub fn packing(&self, size: (usize, usize)) -> Result<Packing> {
        Ok(self.sizes.packing(size, self.read_at(size)?, 1))
    }

    /// The patches of an image, [patches, 3 · temporal · p²], and its grid: time, height, width in patches.
    ///
    /// # Errors
    /// As [`Sizes::fit`] and [`resize`]. Spec: E4.13
    pub fn pixels(&self, image: &Image) -> Result<(ArrayD<f32>, [usize; 3])> {
        let pixels = &self.settings.pixels;
        let size = self.read_at(image.size())?;
        let read = resize(image.rgb(), size, pixels.filter, pixels.resampler)?;
        let grid = [1, size.0 / self.sizes.patch, size.1 / self.sizes.patch];
        Ok((self.patches(read.view(), &pixels.levels()).into_dyn(), grid))
    }

    /// rgb: [h, w, 3], sides multiples of m·p → patches through the level tables. Spec: E4.13, D4.5
    fn patches(&self, rgb: ArrayView3<'_, u8>, levels: &[[f32; 256]; 3]) -> Array2<f32> {
        let (h, w, _) = rgb.dim();
        let (p, m) = (self.sizes.patch, self.sizes.merge);
        let shape = (h / p * (w / p), 3 * self.temporal * p * p);
        let across = w / (m * p);
        Array2::from_shape_fn(shape, |(patch, k)| {
            let (square, part) = (patch / (m * m), patch % (m * m));
            let (channel, y, x) = (k / (self.temporal * p * p), k / p % p, k % p);
            let row = (square / across * m + part / m) * p + y;
            let column = (square % across * m + part % m) * p + x;
            levels[channel][usize::from(rgb[[row, column, channel]])]
        })
    }
}

/// `min_pixels` and `max_pixels`, before `shortest_edge` and `longest_edge` of `size`. Spec: T4.7
fn limits(images: &Section) -> Result<(usize, usize)> {
    const WANT: &str = "{\"shortest_edge\": pixels, \"longest_edge\": pixels}, or min_pixels and max_pixels beside it";
    let size = images.get("size");
    let limit = |edge: &str, key: &str, default: u64| {
        if let Some(own) = images.get(key) {
            let own = own.as_u64().filter(|&n| n > 0);
            return own.ok_or_else(|| images.wrong(key, "a number of pixels above 0"));
        }
        let of = size.map_or(Some(default), |size| size.get(edge)?.as_u64()).filter(|&n| n > 0);
        of.ok_or_else(|| images.wrong("size", WANT))
    };
    let (min, max) =
        (limit("shortest_edge", "min_pixels", 56 * 56)?, limit("longest_edge", "max_pixels", 1280 * 28 * 28)?);
    Ok((min as usize, max as usize))
}

/// An image whose patches come from elsewhere.
///
/// # Errors
/// No grid, or pixels of another shape than it asks for.
pub(super) fn given(config: &Qwen2VlConfig, given: GivenImage) -> Result<PreparedImage> {
    let v = &config.vision;
    let GivenImage { pixels, size, grid } = given;
    let whole = |[t, h, w]: &[usize; 3]| *t > 0 && [h, w].iter().all(|n| **n > 0 && n.is_multiple_of(v.merge));
    let patches = |grid: [usize; 3]| grid.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    let grid = grid.filter(whole).filter(|&g| patches(g).is_some_and(|n| n <= MAX_PATCHES));
    let wanted = format!("time, height and width in patches, both sides multiples of {}", v.merge);
    let Some(grid) = grid else { return Err(crate::Error::new("grid", wanted, format!("{:?}", given.grid))) };
    let want = [grid.iter().product(), v.patch_numbers()];
    ensure!(
        pixels.shape() == want,
        "pixels",
        format!("the shape {want:?} of {} × {} × {} patches", grid[0], grid[1], grid[2]),
        format!("{:?}", pixels.shape())
    );
    let sizes = Sizes { patch: v.patch, merge: v.merge, min_pixels: 1, max_pixels: usize::MAX };
    let packing = sizes.packing(size, (grid[1] * v.patch, grid[2] * v.patch), grid[0]);
    let sha256 = image::sha256_of(&pixels);
    Ok(PreparedImage { size, grid: Some(grid), pixels, packing, sha256 })
}
