//! The image settings in `preprocessor_config.json` or `processor_config.json`, with the family's defaults.
//!
//! Settings that change pixels are applied or refused, never ignored. A setting that only one family has is in that
//! family's file. Source: transformers 5.17 `ImageProcessingMixin.get_image_processor_dict`, `TorchvisionBackend`.
//! Spec: T4.4

use super::frames::Frames;
use super::image::Orientation;
use super::mrope::{AfterVideo, FPS};
use super::pixels::Pixels;
use super::section::Section;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::kernel::resample::Filter;
use serde_json::Value;

/// The file of transformers 4 with the image processor's settings.
pub const PREPROCESSOR: &str = "preprocessor_config.json";
/// The file with the processor's settings. In transformers 5 it also holds the image processor's settings.
pub const PROCESSOR: &str = "processor_config.json";

/// The settings that every family's processor has. Spec: T4.4
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Resizing and normalising.
    pub pixels: Pixels,
    /// Whether images of other colour modes are converted (`do_convert_rgb`). If not, such images are refused.
    pub convert_rgb: bool,
    /// The text for an image in a rendered prompt, unless the tokenizer names another text.
    pub image_token: String,
    /// Whether pictures are turned as their EXIF says. Spec: D4.10
    pub orientation: Orientation,
    /// The colour behind pictures with alpha; `None` drops the alpha. Spec: D4.11
    pub background: Option<[u8; 3]>,
    /// The limits that the caller chose.
    pub limits: Limits,
    /// Where the text after a video stands, in families with M-RoPE. Spec: A4.8
    pub after_video: AfterVideo,
    /// Frames a second of videos. Spec: D4.15
    pub fps: f64,
    /// Which frames of a film are read. Spec: D4.17
    pub frames: Frames,
}

/// Limits that replace those of the checkpoint's files. Spec: D4.12
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The fewest pixels at which an image is read.
    pub min_pixels: Option<usize>,
    /// The most pixels at which an image is read.
    pub max_pixels: Option<usize>,
    /// The most tiles of an image, without the tile of the whole image.
    pub max_tiles: Option<usize>,
}

impl Limits {
    /// The name and the value of each limit that is set.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let all = [("min_pixels", self.min_pixels), ("max_pixels", self.max_pixels), ("max_tiles", self.max_tiles)];
        all.into_iter().filter_map(|(name, limit)| Some((name, limit?)))
    }

    /// Fails if a limit is set that is not among `known`. Spec: D4.12
    pub(crate) fn only(&self, known: &[&str], family: &str) -> Result<()> {
        let Some((name, value)) = self.named().find(|(name, _)| !known.contains(name)) else { return Ok(()) };
        let wanted = match known.is_empty() {
            true => format!("no limit: the processor of {family} has none"),
            false => format!("{}, as the processor of {family} has", known.join(" or ")),
        };
        Err(Error::new(name, wanted, value))
    }
}

/// The image processor's settings in a checkpoint, and the processor's own settings if there are any. `image_processor`
/// of `processor_config.json` takes precedence over `preprocessor_config.json`.
///
/// # Errors
/// Neither file exists, or a file is not a JSON object.
pub(crate) fn sections(files: &Files) -> Result<(Section, Option<Section>)> {
    let processor = Section::read(files, PROCESSOR)?;
    let nested = match processor.as_ref().and_then(|p| Some((p, p.get("image_processor")?))) {
        Some((p, Value::Object(fields))) => {
            Some(Section { at: format!("{}: image_processor", p.at), fields: fields.clone() })
        }
        Some((p, _)) => return Err(p.wrong("image_processor", "a JSON object")),
        None => None,
    };
    let images = match nested {
        Some(section) => section,
        None => Section::read(files, PREPROCESSOR)?.ok_or_else(|| {
            Error::new(files.label(PREPROCESSOR), "the image processor's settings", "no such file")
                .remedy(format!("copy it from the checkpoint's page; {PROCESSOR} with image_processor will do too"))
        })?,
    };
    Ok((images, processor))
}

impl Pixels {
    /// The resizing and normalising settings of a section. `default` holds the family's values for missing fields.
    ///
    /// # Errors
    /// A field of the wrong type; a setting that is not supported. Spec: T4.4
    pub(crate) fn read(section: &Section, default: Pixels) -> Result<Pixels> {
        let filter = match section.get("resample").map(Value::as_u64) {
            None => default.filter,
            Some(Some(3)) => Filter::Bicubic,
            Some(Some(2)) => Filter::Bilinear,
            _ => return Err(section.wrong("resample", "2 (bilinear) or 3 (bicubic)")),
        };
        let rescale = section.get("rescale_factor").map_or(Some(1.0 / 255.0), Value::as_f64);
        let rescale = rescale.ok_or_else(|| section.wrong("rescale_factor", "a number"))?;
        let pixels = Pixels {
            resize: section.flag("do_resize", default.resize)?,
            filter,
            resampler: default.resampler,
            rescale: section.flag("do_rescale", true)?.then_some(rescale),
            mean: section.channels("image_mean", default.mean)?,
            std: section.channels("image_std", default.std)?,
            normalize: section.flag("do_normalize", true)?,
            exact: false,
        };
        pixels.checked().map_err(|e| e.within(&section.at))
    }
}

impl Settings {
    /// The settings of the sections; `image_token` is the family's own.
    ///
    /// # Errors
    /// As [`Pixels::read`]. Spec: T4.4
    pub(crate) fn read(images: &Section, processor: Option<&Section>, image_token: &str) -> Result<Settings> {
        let named = processor.and_then(|p| p.get("image_token")?.as_str());
        let settings = Settings::of(Pixels::read(images, Pixels::CLIP)?, named.unwrap_or(image_token));
        Ok(Settings { convert_rgb: images.flag("do_convert_rgb", true)?, ..settings })
    }

    /// These settings of pixels, and what is done without any word about the rest.
    pub(crate) fn of(pixels: Pixels, image_token: &str) -> Settings {
        Settings {
            pixels,
            convert_rgb: true,
            image_token: image_token.to_owned(),
            orientation: Orientation::Exif,
            background: None,
            limits: Limits::default(),
            after_video: AfterVideo::default(),
            fps: FPS,
            frames: Frames::All,
        }
    }
}
