//! What a checkpoint's image processor does: how pixels become tiles or patches, and which prompt rows they take.

use crate::error::{Result, ensure};
use crate::input::image::{self, Image};
use crate::input::packing::Packing;
use crate::input::prepared::PreparedImage;
use crate::input::settings::Settings;
use crate::input::video;
use ndarray::ArrayD;
use std::fmt::Debug;

/// One image or video cut into tiles or patches, and its grid (time, height and width in patches) in families that read images
/// of any size.
pub type Cut = (ArrayD<f32>, Option<[usize; 3]>);

/// A checkpoint's way to read images, and videos if the family does.
pub trait Reader: Debug + Send + Sync {
    /// What the files say.
    fn settings(&self) -> &Settings;

    /// The same, to be changed.
    fn settings_mut(&mut self) -> &mut Settings;

    /// A rendered prompt as it is tokenized: one placeholder an image, with the marks around it that the processor writes.
    fn marked(&self, rendered: String, _images: usize) -> String {
        rendered
    }

    /// How an image becomes prompt rows, in a line.
    fn line(&self) -> String;

    /// The rows of an image of `size` = (height, width), one of `of` images of the prompt.
    ///
    /// # Errors
    /// A size that the family does not take.
    fn packing(&self, size: (usize, usize), of: usize) -> Result<Packing>;

    /// The pixels of an image, one of `of` of the prompt.
    ///
    /// # Errors
    /// A size that the family does not take.
    fn pixels(&self, image: &Image, of: usize) -> Result<Cut>;

    /// The same for videos, in families that read videos.
    fn videos(&self) -> Option<&dyn VideoReader> {
        None
    }

    /// An image, one of `of` of the prompt, ready for the vision tower.
    ///
    /// # Errors
    /// A size that the family does not take; a colour mode that the settings refuse.
    fn prepare(&self, image: &Image, of: usize) -> Result<PreparedImage> {
        ensure!(
            self.settings().convert_rgb || image.was_rgb(),
            "do_convert_rgb: false",
            "an RGB image",
            "an image of another colour mode",
            "set do_convert_rgb to true"
        );
        let (pixels, grid) = self.pixels(image, of)?;
        let packing = self.packing(image.size(), of)?;
        Ok(PreparedImage { size: image.size(), grid, pixels, packing, sha256: image.sha256().to_owned() })
    }
}

/// A checkpoint's way to read videos, which are lists of frames of one size, in order.
pub trait VideoReader {
    /// How a video becomes prompt rows, in a line.
    ///
    /// # Errors
    /// What is wrong with the video processor's settings.
    fn line(&self) -> Result<String>;

    /// The rows of a video of `frames` frames of `size` = (height, width).
    ///
    /// # Errors
    /// What is wrong with the video processor's settings; a size that the family does not take. Spec: E4.22, E4.23
    fn packing(&self, frames: usize, size: (usize, usize)) -> Result<Packing>;

    /// The pixels of a video.
    ///
    /// # Errors
    /// As [`packing`](Self::packing). Spec: E4.22, E4.23
    fn pixels(&self, frames: &[Image]) -> Result<Cut>;

    /// A video, ready for the vision tower.
    ///
    /// # Errors
    /// As [`video::one_size`] and [`packing`](Self::packing). Spec: E4.22, E4.23
    fn prepare(&self, frames: &[Image]) -> Result<PreparedImage> {
        let size = video::one_size(frames)?;
        let (pixels, grid) = self.pixels(frames)?;
        let hashes: String = frames.iter().map(Image::sha256).collect();
        let packing = self.packing(frames.len(), size)?;
        Ok(PreparedImage { size, grid, pixels, packing, sha256: image::sha256(hashes.as_bytes()) })
    }
}
