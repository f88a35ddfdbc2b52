//! Where families differ on the input side. Each has a file of its own; this one lists them, and nothing else does.

use super::processor::Settings;
use super::{GivenImage, Image, Packing, Positions, PreparedImage, llava_onevision};
use crate::config::FamilyConfig;
use crate::error::{Result, ensure};
use crate::files::Files;

/// A checkpoint's way to read images: how pixels become tiles or patches, and which prompt rows they take.
#[derive(Debug, Clone)]
pub enum Reader {
    /// See [`llava_onevision`].
    LlavaOnevision(llava_onevision::Reader),
}

impl Reader {
    /// The reader of a checkpoint.
    ///
    /// # Errors
    /// A missing or broken file, an unsupported setting, a disagreement between files.
    pub fn load(files: &Files, config: &FamilyConfig) -> Result<Reader> {
        Ok(match config {
            FamilyConfig::LlavaOnevision(c) => Reader::LlavaOnevision(llava_onevision::Reader::load(files, c)?),
        })
    }

    /// What the files say.
    pub fn settings(&self) -> &Settings {
        match self {
            Reader::LlavaOnevision(reader) => &reader.settings,
        }
    }

    /// The same, to be changed.
    pub fn settings_mut(&mut self) -> &mut Settings {
        match self {
            Reader::LlavaOnevision(reader) => &mut reader.settings,
        }
    }

    /// The rows of an image of `size` = (height, width), one of `of` images of the prompt.
    ///
    /// # Errors
    /// A size that the family does not take.
    pub fn packing(&self, size: (usize, usize), of: usize) -> Result<Packing> {
        match self {
            Reader::LlavaOnevision(reader) => reader.packing(size, of),
        }
    }

    /// An image, one of `of` of the prompt, ready for the vision tower.
    ///
    /// # Errors
    /// A size that the family does not take; a colour mode that the settings refuse.
    pub fn prepare(&self, image: &Image, of: usize) -> Result<PreparedImage> {
        ensure!(
            self.settings().convert_rgb || image.was_rgb(),
            "do_convert_rgb: false",
            "an RGB image",
            "an image of another colour mode",
            "set do_convert_rgb to true"
        );
        let (pixels, grid) = match self {
            Reader::LlavaOnevision(reader) => (reader.pixels(image, of)?, None),
        };
        let packing = self.packing(image.size(), of)?;
        Ok(PreparedImage { size: image.size(), grid, pixels, packing, sha256: image.sha256().to_owned() })
    }
}

/// An image whose pixels come from elsewhere, one of `of` of the prompt.
///
/// # Errors
/// Pixels of another shape than the family's processor gives.
pub(super) fn given(config: &FamilyConfig, image: GivenImage, of: usize) -> Result<PreparedImage> {
    match config {
        FamilyConfig::LlavaOnevision(c) => llava_onevision::given(c, image, of),
    }
}

/// Where the rows of a prompt stand, its placeholders expanded: ids \[n\] → of n rows.
pub(super) fn positions(config: &FamilyConfig, ids: &[u32], _images: &[PreparedImage]) -> Positions {
    match config {
        FamilyConfig::LlavaOnevision(_) => Positions::in_order(ids.len()),
    }
}
