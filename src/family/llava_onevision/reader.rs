//! LLaVA-OneVision's image processor. A single image is cut into anyres tiles; each of several images becomes one tile.
//! A newline follows each row of tokens.
//!
//! Geometry: [`Anyres`]; pixels: `input/pixels.rs`. Source: transformers 5.17 `LlavaOnevisionImageProcessor`,
//! `LlavaOnevisionProcessor`. Spec: T4.4, E4.8, C4.12

use super::config::{LlavaOnevisionConfig, default_pinpoints};
use crate::error::{Result, ensure};
use crate::family::reader::{Cut, Reader, VideoReader};
use crate::files::Files;
use crate::input::frames::{Rule, Sampler};
use crate::input::pixels::normalised;
use crate::input::{Anyres, Image, Packing, Pixels, Section, Settings, anyres_settings, sections, video};
use crate::kernel::resample::resize;

/// Reads images and videos as a checkpoint's processor does.
#[derive(Debug, Clone)]
pub struct LlavaOnevisionReader {
    settings: Settings,
    anyres: Anyres,
    /// The video settings in the checkpoint's files, or the error in them. The error is reported only if there is a
    /// video.
    video: Result<Pixels>,
    sampler: Result<Sampler>,
}

impl LlavaOnevisionReader {
    /// The reader of a checkpoint.
    ///
    /// # Errors
    /// The errors of [`Settings`]; a contradiction to `config.json`. Spec: T4.4, C4.12
    pub fn load(files: &Files, config: &LlavaOnevisionConfig) -> Result<LlavaOnevisionReader> {
        Ok(LlavaOnevisionReader {
            settings: settings(files, config)?,
            anyres: config.anyres(),
            video: film(files, config),
            sampler: video::sampler(files, Rule::Even, None),
        })
    }
}

impl Reader for LlavaOnevisionReader {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    fn line(&self) -> String {
        let (tile, side) = (self.anyres.tile, self.anyres.side());
        format!(
            "tiles of {tile} px become {side} × {side} tokens; a newline after each row of them; several images: one tile each"
        )
    }

    fn packing(&self, size: (usize, usize), of: usize) -> Result<Packing> {
        self.anyres.packing(size, of == 1)
    }

    fn pixels(&self, image: &Image, of: usize) -> Result<Cut> {
        Ok((self.settings.pixels.tiles(image.rgb(), &self.anyres, of == 1)?.into_dyn(), None))
    }

    fn videos(&self) -> Option<&dyn VideoReader> {
        Some(self)
    }

    fn sampler(&self) -> Option<Result<Sampler>> {
        Some(self.sampler.clone())
    }
}

impl VideoReader for LlavaOnevisionReader {
    fn line(&self) -> Result<String> {
        let (tile, half) = (self.anyres.tile, self.anyres.side().div_ceil(2));
        VideoReader::packing(self, 1, (1, 1))?;
        Ok(format!("a frame is a tile of {tile} px and becomes {half} × {half} tokens; one newline after the last"))
    }

    /// Spec: E4.23
    fn packing(&self, frames: usize, size: (usize, usize)) -> Result<Packing> {
        self.video.clone()?;
        self.anyres.video(frames, size)
    }

    /// One tile for each frame: [frames, 3, S, S]. Spec: E4.23
    fn pixels(&self, frames: &[Image]) -> Result<Cut> {
        let settings = Pixels { resampler: self.settings.pixels.resampler, ..self.video.clone()? };
        let side = self.anyres.tile;
        let tile = |frame: &Image| {
            let fits = settings.resize || frame.size() == (side, side);
            let of = || format!("{} × {}", frame.size().0, frame.size().1);
            ensure!(fits, "do_resize: false", format!("frames of {side} × {side} pixels"), of());
            resize(frame.rgb(), (side, side), settings.filter, settings.resampler)
        };
        let tiles = frames.iter().map(tile).collect::<Result<Vec<_>>>()?;
        let views: Vec<_> = tiles.iter().map(|tile| tile.view()).collect();
        Ok((normalised(&settings.levels(), &views, side).into_dyn(), None))
    }
}

/// The settings that turn frames into tiles. Spec: T4.11
fn film(files: &Files, config: &LlavaOnevisionConfig) -> Result<Pixels> {
    let section = video::section(files)?;
    let (got, want) = (anyres_settings::side(&section, 384)?, config.vision.image);
    ensure!(got == want, format!("{}: size", section.at), format!("vision_config.image_size {want}"), got);
    Pixels::read(&section, Pixels::CLIP)
}

/// The settings in a checkpoint.
///
/// # Errors
/// The errors of [`Settings`]; a contradiction to `config.json`. Spec: T4.4, C4.12
fn settings(files: &Files, config: &LlavaOnevisionConfig) -> Result<Settings> {
    let (images, processor) = sections(files)?;
    agree_images(files, &images, config)?;
    if let Some(processor) = &processor {
        agree_processor(files, processor, config)?;
    }
    Settings::read(&images, processor.as_ref(), "<image>")
}

/// Checks the image processor's fields that the model also has, and the fields that this family never uses.
/// Spec: C4.12
fn agree_images(files: &Files, images: &Section, config: &LlavaOnevisionConfig) -> Result<()> {
    let model = files.label("config.json");
    images.class("LlavaOnevisionImageProcessor")?;
    images.flag("do_pad", true)?; // do_pad adds empty tiles to a batch; a single prompt needs no empty tiles
    if images.flag("do_center_crop", false)? || images.get("crop_size").is_some() {
        return Err(images.wrong("do_center_crop, crop_size", "no cropping, which this family never does"));
    }
    let side = anyres_settings::side(images, 384)?;
    ensure!(
        side == config.vision.image,
        format!("{}: size", images.at),
        format!("vision_config.image_size {} of {model}", config.vision.image),
        side
    );
    anyres_settings::same_pinpoints(images, default_pinpoints, &config.pinpoints, &model)
}

/// Checks the processor's own fields, if they are present. Spec: C4.12
fn agree_processor(files: &Files, processor: &Section, config: &LlavaOnevisionConfig) -> Result<()> {
    let model = files.label("config.json");
    if let Some(n) = processor.get("num_image_tokens") {
        let what = format!("the patches of a tile by vision_config of {model}");
        processor.expect("num_image_tokens", n.as_u64(), config.vision.side().pow(2), &what)?;
    }
    if let Some(ratio) = processor.get("vision_aspect_ratio") {
        let number = ratio.as_str().map(|r| r.trim_matches(|c| "anyres_max_".contains(c)));
        let n = number.and_then(|n| n.trim().parse().ok());
        let what = format!("the N of anyres_max_N in vision_aspect_ratio of {model}");
        processor.expect("vision_aspect_ratio", n, config.max_tiles, &what)?;
    }
    if let Some(strategy) = processor.get("vision_feature_select_strategy") {
        let want = if config.drop_first { "default" } else { "full" };
        ensure!(
            strategy == want,
            format!("{}: vision_feature_select_strategy", processor.at),
            format!("{want:?} as in {model}"),
            strategy
        );
    }
    Ok(())
}
