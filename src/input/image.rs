//! One decoded image: RGB, eight bits for each channel. `decode.rs` opens files (feature `input`).

use crate::error::{Result, ensure};
use ndarray::{Array3, ArrayD, ArrayView3};
use sha2::{Digest, Sha256};

/// The most pixels of an image. Pillow refuses larger images too (twice its warning limit). Spec: C4.14a
pub const MAX_PIXELS: u64 = 2 * 89_478_485;

/// The most images, or frames of a video, in a prompt: several times the number in any model's training. Spec: C4.14e
pub const MAX_IMAGES: usize = 4096;

/// An RGB image. Spec: D4.2
#[derive(Debug, Clone)]
pub struct Image {
    rgb: Array3<u8>,
    sha256: String,
    label: String,
    was_rgb: bool,
}

/// The sha-256 of `bytes` in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The sha-256 of pixels that came without a file.
pub(crate) fn sha256_of(pixels: &ArrayD<f32>) -> String {
    sha256(&pixels.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
}

impl Image {
    /// An image of `height` rows of `width` pixels of red, green, blue.
    ///
    /// # Errors
    /// No pixels, more than [`MAX_PIXELS`], or not 3 · height · width values.
    pub fn from_rgb(height: usize, width: usize, pixels: Vec<u8>) -> Result<Image> {
        let hash = sha256(&pixels);
        Image::new("image".into(), height, width, pixels, hash, true)
    }

    pub(crate) fn new(
        label: String,
        height: usize,
        width: usize,
        pixels: Vec<u8>,
        sha256: String,
        was_rgb: bool,
    ) -> Result<Image> {
        let area = height as u128 * width as u128;
        ensure!((1..=u128::from(MAX_PIXELS)).contains(&area), &label, format!("1 to {MAX_PIXELS} pixels"), {
            format!("{height} × {width}")
        });
        let got = pixels.len();
        match Array3::from_shape_vec((height, width, 3), pixels) {
            Ok(rgb) => Ok(Image { rgb, sha256, label, was_rgb }),
            Err(_) => Err(crate::Error::new(label, format!("3 · {height} · {width} values"), got)),
        }
    }

    /// The pixels: [height, width, 3].
    pub fn rgb(&self) -> ArrayView3<'_, u8> {
        self.rgb.view()
    }

    /// Height and width in pixels.
    pub fn size(&self) -> (usize, usize) {
        let (h, w, _) = self.rgb.dim();
        (h, w)
    }

    /// sha-256 of the file, or of the pixels if there was no file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The image's name in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether the file held RGB already, so that nothing was converted.
    pub fn was_rgb(&self) -> bool {
        self.was_rgb
    }
}
