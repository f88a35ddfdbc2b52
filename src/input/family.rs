//! Where families differ on the input side. Each has a file of its own; this one lists them, and nothing else does.

use super::processor::Settings;
use super::{GivenImage, Image, Packing, Positions, PreparedImage, internvl, llava_onevision, mrope, qwen2_vl};
use crate::config::{CONTEXT, FamilyConfig};
use crate::error::{Result, ensure};
use crate::files::Files;

/// A checkpoint's way to read images: how pixels become tiles or patches, and which prompt rows they take.
#[derive(Debug, Clone)]
pub enum Reader {
    /// See [`llava_onevision`].
    LlavaOnevision(llava_onevision::Reader),
    /// See [`qwen2_vl`].
    Qwen2Vl(qwen2_vl::Reader),
    /// See [`internvl`].
    InternVl(internvl::Reader),
}

impl Reader {
    /// The reader of a checkpoint.
    ///
    /// # Errors
    /// A missing or broken file, an unsupported setting, a disagreement between files.
    pub fn load(files: &Files, config: &FamilyConfig) -> Result<Reader> {
        Ok(match config {
            FamilyConfig::LlavaOnevision(c) => Reader::LlavaOnevision(llava_onevision::Reader::load(files, c)?),
            FamilyConfig::Qwen2Vl(c) => Reader::Qwen2Vl(qwen2_vl::Reader::load(files, c)?),
            FamilyConfig::InternVl(c) => Reader::InternVl(internvl::Reader::load(files, c)?),
        })
    }

    /// What the files say.
    pub fn settings(&self) -> &Settings {
        match self {
            Reader::LlavaOnevision(reader) => &reader.settings,
            Reader::Qwen2Vl(reader) => &reader.settings,
            Reader::InternVl(reader) => &reader.settings,
        }
    }

    /// The same, to be changed.
    pub fn settings_mut(&mut self) -> &mut Settings {
        match self {
            Reader::LlavaOnevision(reader) => &mut reader.settings,
            Reader::Qwen2Vl(reader) => &mut reader.settings,
            Reader::InternVl(reader) => &mut reader.settings,
        }
    }

    /// The rows of an image of `size` = (height, width), one of `of` images of the prompt.
    ///
    /// # Errors
    /// A size that the family does not take.
    pub fn packing(&self, size: (usize, usize), of: usize) -> Result<Packing> {
        match self {
            Reader::LlavaOnevision(reader) => reader.packing(size, of),
            Reader::Qwen2Vl(reader) => reader.packing(size),
            Reader::InternVl(reader) => reader.packing(size),
        }
    }

    /// The text that stands for an image in a rendered prompt where neither tokenizer nor processor names one.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Reader::LlavaOnevision(_) => "<image>",
            Reader::Qwen2Vl(_) => "<|image_pad|>",
            Reader::InternVl(_) => CONTEXT,
        }
    }

    /// A rendered prompt as it is tokenized: one placeholder an image, with the marks around it that the processor writes.
    pub fn marked(&self, rendered: String, images: usize) -> String {
        match self {
            Reader::LlavaOnevision(_) | Reader::Qwen2Vl(_) => rendered,
            Reader::InternVl(reader) => reader.marked(&rendered, images),
        }
    }

    /// How an image becomes prompt rows, in a line.
    pub fn line(&self) -> String {
        match self {
            Reader::LlavaOnevision(reader) => reader.line(),
            Reader::Qwen2Vl(reader) => reader.line(),
            Reader::InternVl(reader) => reader.line(),
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
            Reader::Qwen2Vl(reader) => reader.pixels(image).map(|(pixels, grid)| (pixels, Some(grid)))?,
            Reader::InternVl(reader) => (reader.pixels(image)?, None),
        };
        let packing = self.packing(image.size(), of)?;
        Ok(PreparedImage { size: image.size(), grid, pixels, packing, sha256: image.sha256().to_owned() })
    }
}

/// An image whose pixels come from elsewhere, one of `of` of the prompt; or, of a `film`, its frames.
///
/// # Errors
/// Pixels of another shape than the family's processor gives.
pub(super) fn given(config: &FamilyConfig, image: GivenImage, (of, film): (usize, bool)) -> Result<PreparedImage> {
    match config {
        FamilyConfig::LlavaOnevision(c) => llava_onevision::given(c, image, (of, film)),
        FamilyConfig::Qwen2Vl(c) => qwen2_vl::given(c, image, film),
        FamilyConfig::InternVl(c) => internvl::given(c, image),
    }
}

/// Where the rows of a prompt stand, its placeholders expanded: ids \[n\] → of n rows.
pub(super) fn positions(config: &FamilyConfig, ids: &[u32], images: &[PreparedImage]) -> Positions {
    match config {
        FamilyConfig::LlavaOnevision(_) | FamilyConfig::InternVl(_) => Positions::in_order(ids.len()),
        FamilyConfig::Qwen2Vl(c) => {
            let rows = |[t, h, w]: [usize; 3]| [t, h / c.vision.merge, w / c.vision.merge];
            let grids: Vec<[usize; 3]> = images.iter().filter_map(|image| image.grid.map(rows)).collect();
            mrope::positions(ids, config.visual_token(ids), &grids)
        }
    }
}
