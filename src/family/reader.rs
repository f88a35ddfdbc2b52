//! The traits of image and video readers: they turn pixels into tiles or patches and determine the visual rows in the
//! prompt, as the checkpoint's processor does.

use crate::error::{Result, ensure};
use crate::input::frames::{Chosen, Sampler};
use crate::input::image::{self, Image};
use crate::input::packing::Packing;
use crate::input::prepared::PreparedImage;
use crate::input::settings::{Limits, Settings};
use crate::input::video;
use ndarray::ArrayD;
use std::fmt::Debug;

/// One image or video cut into tiles or patches. Families that read images of any size also give its grid: time, height
/// and width in patches.
pub type Cut = (ArrayD<f32>, Option<[usize; 3]>);

/// Reads images as the checkpoint's processor does, and videos if the family reads videos.
pub trait Reader: Debug + Send + Sync {
    /// The settings in the checkpoint's files.
    fn settings(&self) -> &Settings;

    /// The settings, for changes.
    fn settings_mut(&mut self) -> &mut Settings;

    /// Replaces limits of the checkpoint's files.
    ///
    /// # Errors
    /// The family's processor has no such limit, or the limits contradict each other. Spec: D4.12
    fn limit(&mut self, limits: Limits) -> Result<()> {
        limits.only(&[], "this family")
    }

    /// The text that is tokenized for a rendered prompt: one placeholder for each image, between the marks that the
    /// processor writes.
    fn marked(&self, rendered: String, _images: usize) -> String {
        rendered
    }

    /// The text that stands for an image in a rendered prompt.
    fn mark(&self) -> &str {
        &self.settings().image_token
    }

    /// The side, in patches, of the square of a grid that becomes one row.
    fn merged(&self) -> usize {
        1
    }

    /// One line that describes how an image becomes prompt rows.
    fn line(&self) -> String;

    /// The rows of one image of `size` = (height, width). The prompt has `of` images in total.
    ///
    /// # Errors
    /// The family does not accept this size.
    fn packing(&self, size: (usize, usize), of: usize) -> Result<Packing>;

    /// The pixels of one image. The prompt has `of` images in total.
    ///
    /// # Errors
    /// The family does not accept this size.
    fn pixels(&self, image: &Image, of: usize) -> Result<Cut>;

    /// The video reader, in families that read videos.
    fn videos(&self) -> Option<&dyn VideoReader> {
        None
    }

    /// The reader of a clip's frames, in families that read them as images of one tile each. Spec: D4.16
    ///
    /// # Errors
    /// The video processor's settings are invalid.
    fn of_frames(&self) -> Option<Result<Box<dyn Reader>>> {
        None
    }

    /// How frames of a film are chosen, in families that read videos. Spec: D4.17
    ///
    /// # Errors
    /// The video processor's settings are invalid.
    fn sampler(&self) -> Option<Result<Sampler>> {
        None
    }

    /// Prepares one image for the vision tower. The prompt has `of` images in total.
    ///
    /// # Errors
    /// The family does not accept the image's size, or the settings refuse its colour mode.
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
        let sha256 = image.sha256().to_owned();
        Ok(PreparedImage { size: image.size(), grid, pixels, interval: 1.0, packing, sha256 })
    }
}

/// Reads videos as the checkpoint's processor does. A video is a list of frames of one size, in order.
pub trait VideoReader {
    /// One line that describes how a video becomes prompt rows.
    ///
    /// # Errors
    /// The video processor's settings are invalid.
    fn line(&self) -> Result<String>;

    /// The text in the place of a video's placeholder in a rendered prompt, if the family's processor writes more than
    /// the placeholder. placeholder: the text that stands for a video in the vocabulary. Spec: D4.15
    fn written(&self, _rendered: &str, _placeholder: &str, _frames: &Chosen) -> Option<String> {
        None
    }

    /// The rows of a video of `frames` frames of `size` = (height, width).
    ///
    /// # Errors
    /// The video processor's settings are invalid, or the family does not accept this size. Spec: E4.22, E4.23
    fn packing(&self, frames: usize, size: (usize, usize)) -> Result<Packing>;

    /// The pixels of a video.
    ///
    /// # Errors
    /// The errors of [`packing`](Self::packing). Spec: E4.22, E4.23
    fn pixels(&self, frames: &[Image]) -> Result<Cut>;

    /// Prepares a video for the vision tower.
    ///
    /// # Errors
    /// The errors of [`video::one_size`] and [`packing`](Self::packing). Spec: E4.22, E4.23
    fn prepare(&self, frames: &[Image]) -> Result<PreparedImage> {
        let size = video::one_size(frames)?;
        let (pixels, grid) = self.pixels(frames)?;
        let hashes: String = frames.iter().map(Image::sha256).collect();
        let packing = self.packing(frames.len(), size)?;
        let sha256 = image::sha256(hashes.as_bytes());
        Ok(PreparedImage { size, grid, pixels, interval: 1.0, packing, sha256 })
    }
}
