//! Qwen2-VL's side of the input: an image of any size in patches, in the order in which squares of them become rows.
//!
//! Source: transformers 5.17 `Qwen2VLImageProcessor`, `Qwen2VLImageProcessorPil`, `Qwen2VLProcessor`.
//! Sizes: [`super::sizes`]. Spec: T4.7, E4.13, E4.22, D4.5

use super::pixels::Pixels;
use super::processor::{Settings, sections};
use super::section::Section;
pub use super::sizes::Sizes;
use super::sizes::{MAX_FILM_PATCHES, MAX_PATCHES};
use super::{GivenImage, Image, Packing, PreparedImage, image, video};
use crate::config::{Qwen2VlConfig, Qwen2VlVisionConfig};
use crate::error::{Result, ensure};
use crate::files::Files;
use crate::kernel::resample::resize;
use ndarray::{Array2, ArrayD, ArrayView3, Axis, concatenate};

/// What a checkpoint's processor does with images.
#[derive(Debug, Clone)]
pub struct Reader {
    /// What its files say.
    pub settings: Settings,
    /// Which sizes images are read at.
    pub sizes: Sizes,
    temporal: usize,
    /// What its files say about videos, or what is wrong with that, which matters only where there is one.
    video: Result<(Pixels, Sizes)>,
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
        let (min_pixels, max_pixels) = limits(&images, (56 * 56, 1280 * 28 * 28))?;
        let sizes = Sizes { patch, merge, min_pixels, max_pixels };
        let settings = Settings::read(&images, processor.as_ref(), Pixels::CLIP)?;
        Ok(Reader { settings, video: film(files, (&sizes, temporal)), sizes, temporal })
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
        read_at(&self.settings.pixels, &self.sizes, size)
    }

    /// The rows of an image of `size` = (height, width).
    ///
    /// # Errors
    /// As [`Sizes::fit`].
    pub fn packing(&self, size: (usize, usize)) -> Result<Packing> {
        Ok(self.sizes.packing(size, self.read_at(size)?, (1, None)))
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
        let frames = vec![read.view(); self.temporal];
        Ok((self.patches(&frames, &pixels.levels()).into_dyn(), grid))
    }

    /// The size at which the frames of a video are read, how, and into how many moments.
    fn film(&self, frames: usize, of: (usize, usize)) -> Result<(Pixels, (usize, usize), usize)> {
        let (settings, sizes) = self.video.clone()?;
        let settings = Pixels { resampler: self.settings.pixels.resampler, ..settings };
        let size = read_at(&settings, &sizes, of)?;
        let times = frames.div_ceil(self.temporal);
        let patches = times.saturating_mul(size.0 / sizes.patch * (size.1 / sizes.patch));
        let want = format!("at most {MAX_FILM_PATCHES} patches");
        ensure!(
            patches <= MAX_FILM_PATCHES,
            "video",
            want,
            format!("{patches} of {frames} frames"),
            "give fewer frames"
        );
        Ok((settings, size, times))
    }

    /// The rows of a video of `frames` frames of `size` = (height, width).
    ///
    /// # Errors
    /// As [`Sizes::fit`]; what is wrong with the video processor's settings; more patches than any prompt has. Spec: E4.22
    pub fn video_packing(&self, frames: usize, size: (usize, usize)) -> Result<Packing> {
        let (_, read, times) = self.film(frames, size)?;
        Ok(self.sizes.packing(size, read, (times, Some(self.temporal))))
    }

    /// The patches of a video, and its grid; where the last moment lacks frames, the last frame is repeated.
    ///
    /// # Errors
    /// As [`video_packing`](Self::video_packing) and [`resize`]. Spec: E4.22
    pub fn video(&self, frames: &[Image]) -> Result<(ArrayD<f32>, [usize; 3])> {
        let (settings, size, times) = self.film(frames.len(), frames.first().map_or((0, 0), Image::size))?;
        let read = |frame: &Image| resize(frame.rgb(), size, settings.filter, settings.resampler);
        let read = frames.iter().map(read).collect::<Result<Vec<_>>>()?;
        let at = |frame: usize| read[frame.min(read.len() - 1)].view();
        let levels = settings.levels();
        let moment = |time: usize| {
            let views: Vec<_> = (0..self.temporal).map(|t| at(time * self.temporal + t)).collect();
            self.patches(&views, &levels)
        };
        let pixels: Vec<_> = (0..times).map(moment).collect();
        let views: Vec<_> = pixels.iter().map(|pixels| pixels.view()).collect();
        let pixels = concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E4.22: frames of one size"));
        Ok((pixels.into_dyn(), [times, size.0 / self.sizes.patch, size.1 / self.sizes.patch]))
    }

    /// How a video becomes prompt rows, in a line.
    ///
    /// # Errors
    /// What is wrong with the video processor's settings.
    pub fn video_line(&self) -> Result<String> {
        let (_, sizes) = self.video.clone()?;
        let (unit, together) = (sizes.unit(), self.temporal);
        let (least, most) = (sizes.min_pixels, sizes.max_pixels);
        Ok(format!(
            "frames are read {together} at a time, at a multiple of {unit} × {unit} px, of {least} to {most} pixels"
        ))
    }

    /// frames: [h, w, 3] each, sides multiples of m·p, as many as a patch has → patches through the level tables. Spec: E4.13, D4.5
    fn patches(&self, frames: &[ArrayView3<'_, u8>], levels: &[[f32; 256]; 3]) -> Array2<f32> {
        let (h, w, _) = frames[0].dim();
        let (p, m) = (self.sizes.patch, self.sizes.merge);
        let shape = (h / p * (w / p), 3 * self.temporal * p * p);
        let across = w / (m * p);
        Array2::from_shape_fn(shape, |(patch, k)| {
            let (square, part) = (patch / (m * m), patch % (m * m));
            let (channel, time, y, x) = (k / (self.temporal * p * p), k / (p * p) % self.temporal, k / p % p, k % p);
            let row = (square / across * m + part / m) * p + y;
            let column = (square % across * m + part % m) * p + x;
            levels[channel][usize::from(frames[time][[row, column, channel]])]
        })
    }
}

/// The size at which a picture is read: its own where nothing is resized.
fn read_at(pixels: &Pixels, sizes: &Sizes, size: (usize, usize)) -> Result<(usize, usize)> {
    if pixels.resize {
        return sizes.fit(size);
    }
    let unit = sizes.unit();
    ensure!(
        size.0 > 0 && size.1 > 0 && size.0.is_multiple_of(unit) && size.1.is_multiple_of(unit),
        "do_resize: false",
        format!("images whose sides are multiples of {unit} pixels"),
        format!("{} × {}", size.0, size.1)
    );
    Ok(size)
}

/// How frames are read. Spec: T4.11
fn film(files: &Files, images: (&Sizes, usize)) -> Result<(Pixels, Sizes)> {
    let (section, (sizes, temporal)) = (video::section(files)?, images);
    let (min_pixels, max_pixels) = limits(&section, (128 * 28 * 28, 768 * 28 * 28))?;
    // Where the section says nothing, transformers takes these defaults, and cuts patches that the tower cannot read.
    for (key, default, want) in
        [("patch_size", 14, sizes.patch), ("merge_size", 2, sizes.merge), ("temporal_patch_size", 2, temporal)]
    {
        let got = section.get(key).map_or(Some(default), |v| v.as_u64());
        let shown = || got.map_or("no number".to_string(), |n| n.to_string());
        ensure!(got == Some(want as u64), format!("{}: {key}", section.at), format!("{want}, as for images"), shown());
    }
    let settings = Settings::read(&section, None, Pixels::CLIP)?;
    Ok((settings.pixels, Sizes { min_pixels, max_pixels, ..sizes.clone() }))
}

/// `min_pixels` and `max_pixels`, before `shortest_edge` and `longest_edge` of `size`. Spec: T4.7
fn limits(images: &Section, (least, most): (u64, u64)) -> Result<(usize, usize)> {
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
    let (min, max) = (limit("shortest_edge", "min_pixels", least)?, limit("longest_edge", "max_pixels", most)?);
    Ok((min as usize, max as usize))
}

/// An image whose patches come from elsewhere, or a `film`.
///
/// # Errors
/// No grid, or pixels of another shape than it asks for.
pub(super) fn given(config: &Qwen2VlConfig, given: GivenImage, film: bool) -> Result<PreparedImage> {
    let v = &config.vision;
    let GivenImage { pixels, size, grid } = given;
    let whole = |[t, h, w]: &[usize; 3]| *t > 0 && [h, w].iter().all(|n| **n > 0 && n.is_multiple_of(v.merge));
    let patches = |grid: [usize; 3]| grid.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    let most = if film { MAX_FILM_PATCHES } else { MAX_PATCHES };
    let grid = grid.filter(whole).filter(|&g| patches(g).is_some_and(|n| n <= most));
    let wanted = format!("time, height and width in patches, both sides multiples of {}", v.merge);
    let Some(grid) = grid else {
        let found = given.grid.map_or("none".into(), |grid| format!("{grid:?}"));
        return Err(crate::Error::new("grid", wanted, found));
    };
    let want = [grid.iter().product(), v.patch_numbers()];
    ensure!(
        pixels.shape() == want,
        "pixels",
        format!("the shape {want:?} of {} × {} × {} patches", grid[0], grid[1], grid[2]),
        format!("{:?}", pixels.shape())
    );
    let sizes = Sizes { patch: v.patch, merge: v.merge, min_pixels: 1, max_pixels: usize::MAX };
    let packing = sizes.packing(size, (grid[1] * v.patch, grid[2] * v.patch), (grid[0], film.then_some(v.temporal)));
    let sha256 = image::sha256_of(&pixels);
    Ok(PreparedImage { size, grid: Some(grid), pixels, packing, sha256 })
}
