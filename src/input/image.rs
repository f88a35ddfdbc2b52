//! One decoded image: RGB, eight bits for each channel. `decode.rs` opens files (feature `input`).

use crate::error::{Result, ensure};
use ndarray::{Array2, Array3, ArrayD, ArrayView3, Axis};
use sha2::{Digest, Sha256};
use std::sync::Arc;

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
    /// The orientation that the file asks for, 1 to 8. Spec: D4.10
    orientation: u8,
    /// The alpha of each pixel, if the file has RGB with alpha.
    alpha: Option<Vec<u8>>,
    /// The file, if programs may decode it otherwise. Spec: D4.18
    file: Option<Arc<[u8]>>,
}

/// What is done with a picture that a phone or a camera stored turned. Spec: D4.10
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// The picture is turned as its EXIF says.
    Exif,
    /// The picture stays as it is stored.
    Ignore,
}

impl Orientation {
    /// The name of the choice.
    pub fn name(self) -> &'static str {
        match self {
            Orientation::Exif => "exif",
            Orientation::Ignore => "ignore",
        }
    }
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
            Ok(rgb) => Ok(Image { rgb, sha256, label, was_rgb, orientation: 1, alpha: None, file: None }),
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

    /// The image of a file that asks for this orientation, with the alpha of its pixels.
    #[cfg(feature = "input")]
    pub(crate) fn asking(self, orientation: u8, alpha: Option<Vec<u8>>) -> Image {
        Image { orientation, alpha, ..self }
    }

    /// The image of a file that programs may decode otherwise. Spec: D4.18
    #[cfg(feature = "input")]
    pub(crate) fn of_lossy(self, file: &[u8]) -> Image {
        Image { file: Some(file.into()), ..self }
    }

    /// The file, if the image is lossy.
    #[cfg(feature = "input")]
    pub(crate) fn file(&self) -> Option<Arc<[u8]>> {
        self.file.clone()
    }

    /// Whether the image comes from a file of JPEG or lossy WebP, which programs may decode otherwise. Spec: D4.18
    pub fn is_lossy(&self) -> bool {
        self.file.is_some()
    }

    /// The orientation that the file asks for, 1 to 8; 1 is as stored. Spec: D4.10
    pub fn orientation(&self) -> u8 {
        self.orientation
    }

    /// Whether the file has RGB with alpha.
    pub fn has_alpha(&self) -> bool {
        self.alpha.is_some()
    }

    /// The alpha of each pixel, if the file has RGB with alpha.
    #[cfg(feature = "input")]
    pub(crate) fn alpha(&self) -> Option<&Vec<u8>> {
        self.alpha.as_ref()
    }

    /// Whether the file has RGB with alpha, and not every pixel covers what is behind it.
    pub fn is_transparent(&self) -> bool {
        self.alpha.as_ref().is_some_and(|alpha| alpha.iter().any(|&a| a < 255))
    }

    /// The image, turned and mirrored as its orientation asks. Spec: D4.10
    pub fn upright(mut self) -> Image {
        let (turns, flips) = (self.orientation >= 5, self.orientation - 1);
        if turns {
            self.rgb = self.rgb.permuted_axes([1, 0, 2]);
        }
        // After the transposition: which of the eight places have their rows, and their columns, in reverse.
        let rows = [false, false, true, true, false, false, true, true][usize::from(flips)];
        let columns = [false, true, true, false, false, true, true, false][usize::from(flips)];
        if rows {
            self.rgb.invert_axis(Axis(0));
        }
        if columns {
            self.rgb.invert_axis(Axis(1));
        }
        self.rgb = self.rgb.as_standard_layout().into_owned();
        let (height, width) = self.size();
        self.alpha = self.alpha.map(|alpha| {
            let (h, w) = if turns { (width, height) } else { (height, width) };
            let mut a =
                Array2::from_shape_vec((h, w), alpha).unwrap_or_else(|_| unreachable!("D4.10: one alpha a pixel"));
            if turns {
                a = a.reversed_axes();
            }
            if rows {
                a.invert_axis(Axis(0));
            }
            if columns {
                a.invert_axis(Axis(1));
            }
            a.iter().copied().collect()
        });
        self.orientation = 1;
        self
    }

    /// The image over a colour, if it has alpha. Source: Pillow's `paste` with a mask. Spec: D4.11
    pub fn over(mut self, colour: [u8; 3]) -> Image {
        let Some(alpha) = self.alpha.take() else { return self };
        for (pixel, &a) in self.rgb.lanes_mut(Axis(2)).into_iter().zip(&alpha) {
            for (value, behind) in pixel.into_iter().zip(colour) {
                let t = u32::from(*value) * u32::from(a) + u32::from(behind) * u32::from(255 - a) + 128;
                *value = ((t + (t >> 8)) >> 8) as u8;
            }
        }
        self
    }
}
