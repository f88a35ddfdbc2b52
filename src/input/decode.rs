//! Image files to RGB as Pillow's `Image.open(…).convert("RGB")` makes it.
//!
//! Alpha is dropped, never blended; rotation by EXIF is ignored; of several frames the first counts.
//! Source: Pillow 13; goldens in tests/golden/convert. Spec: T4.6, C4.11

use super::image::{Image, MAX_PIXELS, sha256};
use crate::error::{Error, Result, ensure};
use crate::kernel::resample::MAX_SIDE;
use ::image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// Image files may not be larger. Spec: C4.11b
const MAX_FILE: u64 = 1 << 30;

impl Image {
    /// The image in a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is larger than 1 GiB; else as [`Image::from_bytes`]. Spec: T4.6
    pub fn open(path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let unreadable = |e: std::io::Error| Error::new(path.display(), "a readable image file", e);
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        ensure!(meta.is_file(), path.display(), "an image file", "a folder or device");
        ensure!(meta.len() <= MAX_FILE, path.display(), format!("at most {MAX_FILE} bytes"), meta.len());
        Image::from_bytes(&std::fs::read(path).map_err(unreadable)?, &path.display().to_string())
    }

    /// The image in the bytes of a file; `label` names it in messages.
    ///
    /// # Errors
    /// No image, a broken one, one of over [`MAX_PIXELS`] pixels (found before anything is allocated), or a kind that is
    /// not supported. Spec: T4.6, C4.11
    pub fn from_bytes(bytes: &[u8], label: &str) -> Result<Image> {
        let kinds = "an image: PNG, JPEG, GIF, BMP, WebP or TIFF";
        let broken = |e: ::image::ImageError| Error::new(label, kinds, e);
        let mut reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| Error::new(label, kinds, e))?;
        ensure!(reader.format().is_some(), label, kinds, "bytes of no known kind");
        let mut limits = Limits::default();
        limits.max_alloc = Some(4 << 30);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(broken)?;
        let (width, height) = decoder.dimensions();
        let fits = u64::from(width) * u64::from(height) <= MAX_PIXELS && width.max(height) as usize <= MAX_SIDE;
        let want = format!("at most {MAX_PIXELS} pixels, no side over {MAX_SIDE}");
        ensure!(fits, label, want, format!("{height} × {width}"), "scale the image down");
        let _ = &mut decoder;
        let decoded = DynamicImage::from_decoder(decoder).map_err(broken)?;
        let was_rgb = matches!(decoded, DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgb16(_));
        let rgb =
            to_rgb(decoded).ok_or_else(|| Error::new(label, "8 or 16 bits a channel", "floating-point pixels"))?;
        Image::new(label.to_owned(), height as usize, width as usize, rgb, sha256(bytes), was_rgb)
    }
}

/// Pillow's conversions. Spec: T4.6
fn to_rgb(image: DynamicImage) -> Option<Vec<u8>> {
    // Of 16 bits Pillow keeps the upper eight.
    let high = |v: u16| (v >> 8) as u8;
    let grey = |v: u8| [v; 3];
    Some(match image {
        DynamicImage::ImageRgb8(i) => i.into_raw(),
        DynamicImage::ImageRgba8(i) => i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        DynamicImage::ImageLuma8(i) => i.pixels().flat_map(|p| grey(p.0[0])).collect(),
        DynamicImage::ImageLumaA8(i) => i.pixels().flat_map(|p| grey(p.0[0])).collect(),
        DynamicImage::ImageRgb16(i) => i.pixels().flat_map(|p| p.0.map(high)).collect(),
        DynamicImage::ImageRgba16(i) => i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(high)).collect(),
        DynamicImage::ImageLuma16(i) => i.pixels().flat_map(|p| grey(high(p.0[0]))).collect(),
        DynamicImage::ImageLumaA16(i) => i.pixels().flat_map(|p| grey(high(p.0[0]))).collect(),
        _ => return None,
    })
}
