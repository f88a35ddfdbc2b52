//! The image processor of the Qwen-VL families: it cuts an image of any size into patches. The patches of a square that becomes one row
//! are consecutive.
//!
//! Source: transformers 5.17 `Qwen2VLImageProcessor`, `Qwen2VLImageProcessorPil`, `Qwen2VLProcessor`.
//! Sizes: [`Sizes`]; patches: `input/patches.rs`. Spec: T4.7, E4.13, E4.22, D4.5

use super::Outline;
use crate::error::{Error, Result, ensure};
use crate::family::reader::{Cut, Reader, VideoReader};
use crate::files::Files;
use crate::input::frames::{Chosen, Rule, Sampler};
use crate::input::mrope::{AfterVideo, Placed};
use crate::input::patches::limits;
use crate::input::sizes::{MAX_FILM_PATCHES, MAX_PATCHES};
use crate::input::{Image, Limits, Packing, Pixels, Positions, PreparedImage, Settings, Sizes, mrope, sections, video};
use crate::kernel::resample::resize;
use ndarray::{Axis, concatenate};

/// Reads images and videos as a checkpoint's processor does.
#[derive(Debug, Clone)]
pub struct PatchReader {
    /// The settings in the checkpoint's files.
    pub settings: Settings,
    /// The sizes to which images are resized.
    pub sizes: Sizes,
    temporal: usize,
    /// The video settings in the checkpoint's files, or the error in them. The error is reported only if there is a
    /// video.
    video: Result<(Pixels, Sizes)>,
    sampler: Result<Sampler>,
    films: Films,
}

/// The sizes of patches in `config.json`, with which the processor's files must agree.
#[derive(Debug, Clone, Copy)]
pub struct Patches {
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// m: the side, in patches, of the square that becomes one row.
    pub merge: usize,
    /// Number of frames in a patch.
    pub temporal: usize,
    /// How the family reads videos.
    pub films: Films,
}

/// How a family reads videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Films {
    /// The limits of pixels are those of a frame; a video is one placeholder. Spec: E4.22
    Frames,
    /// The limits of pixels are those of the whole video; each moment has a placeholder of its own, behind its time.
    /// Spec: E4.31, D4.15
    Stamped,
}

impl Patches {
    /// The positions of a prompt's rows: those of M-RoPE. visual_token: the id of the rows of images or of a video.
    /// Spec: E4.14
    pub fn positions(&self, ids: &[u32], visual_token: u32, images: &[PreparedImage]) -> Positions {
        let placed = |image: &PreparedImage| {
            let [t, h, w] = image.grid?;
            // Text stands between the moments that have a time of their own.
            let (each, times) = if self.films == Films::Stamped { (1, t) } else { (t, 1) };
            let rows = [each, h / self.merge, w / self.merge];
            Some(std::iter::repeat_n(Placed { rows, interval: image.interval }, times))
        };
        let placed: Vec<Placed> = images.iter().filter_map(placed).flatten().collect();
        mrope::timed(ids, visual_token, &placed)
    }

    /// The rows of an image or a video whose grid is known.
    ///
    /// # Errors
    /// There is no grid, or it is no grid of whole squares, or it has too many patches.
    pub fn packing(&self, image: &Outline) -> Result<Packing> {
        let Patches { patch, merge, temporal, .. } = *self;
        let whole = |[t, h, w]: &[usize; 3]| *t > 0 && [h, w].iter().all(|n| **n > 0 && n.is_multiple_of(merge));
        let patches = |grid: [usize; 3]| grid.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        let most = if image.frames.is_some() { MAX_FILM_PATCHES } else { MAX_PATCHES };
        let grid = image.grid.filter(whole).filter(|&g| patches(g).is_some_and(|n| n <= most));
        let Some([t, h, w]) = grid else {
            let wanted = format!("time, height and width in patches, both sides multiples of {merge}");
            let found = image.grid.map_or("none".into(), |grid| format!("{grid:?}"));
            return Err(Error::new("grid", wanted, found));
        };
        let sizes = Sizes { patch, merge, min_pixels: 1, max_pixels: usize::MAX };
        Ok(sizes.packing(image.size, (h * patch, w * patch), (t, image.frames.map(|_| temporal))))
    }
}

impl PatchReader {
    /// The reader of a checkpoint.
    ///
    /// # Errors
    /// The errors of [`Settings`]; invalid sizes; a contradiction to `config.json`. Spec: T4.7, C4.12
    pub fn load(files: &Files, v: Patches) -> Result<PatchReader> {
        let (images, processor) = sections(files)?;
        let model = files.label("config.json");
        images.class("Qwen2VLImageProcessor")?;
        let side = |key: &str, default: u64, want: usize, theirs: &str| {
            let got = images.get(key).map_or(Some(default), |v| v.as_u64());
            images.expect(key, got, want, &format!("vision_config.{theirs} of {model}")).map(|()| want)
        };
        let patch = side("patch_size", 14, v.patch, "patch_size")?;
        let merge = side("merge_size", 2, v.merge, "spatial_merge_size")?;
        let temporal = side("temporal_patch_size", 2, v.temporal, "temporal_patch_size")?;
        let (min_pixels, max_pixels) = limits(&images, (56 * 56, 1280 * 28 * 28))?;
        let sizes = Sizes { patch, merge, min_pixels, max_pixels };
        let settings = Settings::read(&images, processor.as_ref(), "<|image_pad|>")?;
        let video = film(files, (&sizes, temporal), v.films);
        let sampler = match v.films {
            Films::Frames => video::sampler(files, Rule::Starts { together: temporal }, None),
            Films::Stamped => video::sampler(files, Rule::Ends, Some(2.0)),
        };
        Ok(PatchReader { settings, video, sampler, sizes, temporal, films: v.films })
    }

    /// The settings for the frames of a video, the size to which frames are resized, and the number of moments. A
    /// moment is a group of `temporal` frames.
    fn film(&self, frames: usize, of: (usize, usize)) -> Result<(Pixels, (usize, usize), usize)> {
        let (settings, sizes) = self.video.clone()?;
        let settings = Pixels { resampler: self.settings.pixels.resampler, ..settings };
        let size = match (self.films, settings.resize) {
            (Films::Stamped, true) => sizes.fit_clip(frames, self.temporal, of)?,
            _ => sizes.read_at(settings.resize, of)?,
        };
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
}

impl Reader for PatchReader {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    fn merged(&self) -> usize {
        self.sizes.merge
    }

    fn limit(&mut self, limits: Limits) -> Result<()> {
        limits.only(&["min_pixels", "max_pixels"], "Qwen2-VL")?;
        self.sizes = self.sizes.limited(limits)?;
        self.settings.limits = limits;
        Ok(())
    }

    fn line(&self) -> String {
        let Sizes { min_pixels, max_pixels, .. } = self.sizes;
        let unit = self.sizes.unit();
        match self.settings.pixels.resize {
            true => format!(
                "read at a multiple of {unit} × {unit} px, of {min_pixels} to {max_pixels} pixels in all: a token each {unit} × {unit} px"
            ),
            false => format!("read as they are, in multiples of {unit} × {unit} px: a token each"),
        }
    }

    fn packing(&self, size: (usize, usize), _: usize) -> Result<Packing> {
        let read = self.sizes.read_at(self.settings.pixels.resize, size)?;
        Ok(self.sizes.packing(size, read, (1, None)))
    }

    /// Spec: E4.13
    fn pixels(&self, image: &Image, _: usize) -> Result<Cut> {
        let pixels = &self.settings.pixels;
        let size = self.sizes.read_at(pixels.resize, image.size())?;
        let read = resize(image.rgb(), size, pixels.filter, pixels.resampler)?;
        let grid = [1, size.0 / self.sizes.patch, size.1 / self.sizes.patch];
        let frames = vec![read.view(); self.temporal];
        Ok((self.sizes.patches(&frames, &pixels.levels()).into_dyn(), Some(grid)))
    }

    fn videos(&self) -> Option<&dyn VideoReader> {
        Some(self)
    }

    fn sampler(&self) -> Option<Result<Sampler>> {
        Some(self.sampler.clone())
    }
}

impl VideoReader for PatchReader {
    fn line(&self) -> Result<String> {
        let (_, sizes) = self.video.clone()?;
        let (unit, together) = (sizes.unit(), self.temporal);
        let (least, most) = (sizes.min_pixels, sizes.max_pixels);
        let all = if self.films == Films::Stamped { " in all frames, and each time is written" } else { "" };
        Ok(format!(
            "frames are read {together} at a time, at a multiple of {unit} × {unit} px, of {least} to {most} pixels{all}"
        ))
    }

    /// Spec: D4.15, A4.9
    fn written(&self, rendered: &str, placeholder: &str, frames: &Chosen) -> Option<String> {
        if self.films != Films::Stamped {
            return None;
        }
        let moment = |at: f64| format!("<{at:.1} seconds>{}{placeholder}{}", VISION[0], VISION[1]);
        let moments: String = video::times(frames, self.temporal).into_iter().map(moment).collect();
        let marked = format!("{}{placeholder}{}", VISION[0], VISION[1]);
        let trained = self.settings.after_video == AfterVideo::Largest && rendered.contains(&marked);
        Some(rendered.replacen(if trained { &marked } else { placeholder }, &moments, 1))
    }

    /// Spec: E4.22
    fn packing(&self, frames: usize, size: (usize, usize)) -> Result<Packing> {
        let (_, read, times) = self.film(frames, size)?;
        Ok(self.sizes.packing(size, read, (times, Some(self.temporal))))
    }

    /// If the last moment has too few frames, the last frame is repeated. Spec: E4.22
    fn pixels(&self, frames: &[Image]) -> Result<Cut> {
        let (settings, size, times) = self.film(frames.len(), frames.first().map_or((0, 0), Image::size))?;
        let read = |frame: &Image| resize(frame.rgb(), size, settings.filter, settings.resampler);
        let read = frames.iter().map(read).collect::<Result<Vec<_>>>()?;
        let at = |frame: usize| read[frame.min(read.len() - 1)].view();
        let levels = settings.levels();
        let moment = |time: usize| {
            let views: Vec<_> = (0..self.temporal).map(|t| at(time * self.temporal + t)).collect();
            self.sizes.patches(&views, &levels)
        };
        let pixels: Vec<_> = (0..times).map(moment).collect();
        let views: Vec<_> = pixels.iter().map(|pixels| pixels.view()).collect();
        let pixels = concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E4.22: frames of one size"));
        Ok((pixels.into_dyn(), Some([times, size.0 / self.sizes.patch, size.1 / self.sizes.patch])))
    }
}

/// The marks around the rows of an image or of a moment.
const VISION: [&str; 2] = ["<|vision_start|>", "<|vision_end|>"];

/// The settings for frames. Spec: T4.11
fn film(files: &Files, images: (&Sizes, usize), films: Films) -> Result<(Pixels, Sizes)> {
    let (section, (sizes, temporal)) = (video::section(files)?, images);
    let (unit, patch, pixels) = match films {
        Films::Frames => (28 * 28, 14, Pixels::CLIP),
        Films::Stamped => (32 * 32, 16, Pixels { mean: [0.5; 3], std: [0.5; 3], ..Pixels::CLIP }),
    };
    let (min_pixels, max_pixels) = limits(&section, (128 * unit, 768 * unit))?;
    // If a field is absent, transformers takes these defaults. With a tower of other sizes, transformers would then cut
    // patches that the tower cannot read.
    for (key, default, want) in
        [("patch_size", patch, sizes.patch), ("merge_size", 2, sizes.merge), ("temporal_patch_size", 2, temporal)]
    {
        section.expect(key, section.get(key).map_or(Some(default), |v| v.as_u64()), want, "as for images")?;
    }
    let pixels = Pixels::read(&section, pixels)?;
    Ok((pixels, Sizes { min_pixels, max_pixels, ..sizes.clone() }))
}
