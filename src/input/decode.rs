//! Image files to RGB as Pillow's `Image.open(…).convert("RGB")` makes it.
//!
//! Alpha is kept beside the colours, never blended here, and a picture stays as it is stored, except TIFF. If a file has
//! several frames, the first frame counts.
//! [`super::formats`] handles files that Pillow reads differently from the crate `image`.
//! Source: Pillow 13; goldens in tests/golden/convert. Spec: T4.6, C4.14a–C4.14d

use super::image::{Image, MAX_IMAGES, MAX_PIXELS, sha256};
use super::{formats, jpeg, lossy, metadata};
use crate::error::{Error, Result, ensure};
use crate::files;
use crate::foreign::{self, watched};
use crate::kernel::resample::MAX_SIDE;
use ::image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// The largest size of an image file, in bytes. Spec: C4.14b
const MAX_FILE: u64 = 1 << 30;
/// The most pixels of all images of a prompt together, because memory holds all of them at once. Spec: C4.14a
const MAX_TOGETHER: u64 = 3 * MAX_PIXELS;
/// The most bytes that a decoder may allocate: twice the largest image in 16 bits and four channels. Spec: C4.14a
const MAX_ALLOC: u64 = 16 * MAX_PIXELS;
/// The most bytes that a decoder may allocate for a file's header. A header may contain a colour profile.
const HEAD: u64 = 16 << 20;

const CHANNELS: &str = "8 or 16 bits a channel";
const KINDS: &str = "an image: PNG, JPEG, GIF, BMP, WebP or TIFF";

/// The files in a folder, sorted by name, without hidden files.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| Error::new(folder.display(), "a readable folder of frames", e);
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(unreadable)?;
    let hidden = |file: &std::fs::DirEntry| file.file_name().to_string_lossy().starts_with('.');
    let mut files: Vec<PathBuf> = entries.iter().filter(|f| !hidden(f)).map(|f| f.path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    ensure!(!files.is_empty(), folder.display(), "a folder of frames", "no file in it");
    Ok(files)
}

/// Fails if there are too many images. Spec: C4.14e
fn few(paths: &[PathBuf]) -> Result<()> {
    let remedy = "give fewer frames";
    ensure!(paths.len() <= MAX_IMAGES, "the prompt", format!("at most {MAX_IMAGES} images"), paths.len(), remedy);
    Ok(())
}

/// The number of pixels of an image, from the header of its file. It is 0 if the header gives no size or too large a
/// size; opening the image then reports the error.
fn pixels_of(path: &Path) -> Result<u64> {
    if !path.metadata().is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(0);
    }
    let file = path.to_owned();
    let size = watched(&path.display().to_string(), KINDS, foreign::Limits::PICTURE, move || {
        let mut reader = ImageReader::open(file).ok()?.with_guessed_format().ok()?;
        reader.limits(limits(HEAD));
        reader.into_dimensions().ok()
    })?;
    let pixels = size.map(|(width, height)| u64::from(width) * u64::from(height));
    Ok(pixels.filter(|&n| n <= MAX_PIXELS).unwrap_or(0))
}

fn limits(bytes: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(bytes);
    limits
}

impl Image {
    /// The image in a file.
    ///
    /// # Errors
    /// A file that cannot be read or is larger than 1 GiB; otherwise as [`Image::from_bytes`]. Spec: T4.6
    pub fn open(path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let found = std::fs::metadata(path).map_err(|e| Error::new(path.display(), "a readable image file", e))?;
        let bytes = files::whole(path, &found, "an image file", MAX_FILE, "scale the image down")?;
        Image::of_file(bytes, path.display().to_string())
    }

    /// The files, and for a folder its files in the order of their names, without files whose name begins with a dot.
    ///
    /// # Errors
    /// A folder that cannot be read or has no file. Spec: D4.8
    pub fn unfolded(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for path in paths {
            match path.is_dir() {
                true => files.extend(files_of(path)?),
                false => files.push(path.clone()),
            }
        }
        Ok(files)
    }

    /// The frames of a video, one file for each frame, in order. A folder stands for its files in the order of their
    /// names, without files whose name begins with a dot.
    ///
    /// # Errors
    /// A folder that cannot be read or has no file; for each file as [`Image::open`]. Spec: D4.8
    pub fn frames(paths: &[PathBuf]) -> Result<Vec<Image>> {
        let frame = |e: Error| match e.expected == KINDS {
            true => e.remedy("give a video as its frames: ffmpeg -i FILM -vf fps=1 FOLDER/%04d.png makes some"),
            false => e,
        };
        Image::all(&Image::unfolded(paths)?).map_err(frame)
    }

    /// The images in files, in order.
    ///
    /// # Errors
    /// As [`Image::open`]; more than [`MAX_IMAGES`] images, or more pixels in total than fit into memory. The file
    /// headers give the number of pixels before any image is decoded. Spec: C4.14a, C4.14e
    pub fn all(paths: &[PathBuf]) -> Result<Vec<Image>> {
        few(paths)?;
        let mut together = 0;
        for path in paths {
            together += pixels_of(path)?;
            let megapixels = |n: u64| format!("{} megapixels", n / 1_000_000);
            ensure!(
                together <= MAX_TOGETHER,
                path.display(),
                format!("at most {} in all pictures of a prompt", megapixels(MAX_TOGETHER)),
                format!("{} with this one", megapixels(together)),
                "scale the pictures down, or give fewer"
            );
        }
        paths.iter().map(Image::open).collect()
    }

    /// The total number of pixels of the images in files, as far as the file headers report it.
    ///
    /// # Errors
    /// A header that takes too long to read; more than [`MAX_IMAGES`] images.
    pub fn pixels(paths: &[PathBuf]) -> Result<u64> {
        few(paths)?;
        paths.iter().map(|path| pixels_of(path)).sum()
    }

    /// The image in the bytes of a file; `label` names it in messages.
    ///
    /// # Errors
    /// Bytes that are no image, a broken image, an image of more than [`MAX_PIXELS`] pixels (checked before any
    /// allocation), or a kind of image that is not supported. Spec: T4.6, C4.14a, C4.14c, C4.14d
    pub fn from_bytes(bytes: &[u8], label: &str) -> Result<Image> {
        Image::of_file(bytes.to_vec(), label.to_owned())
    }

    fn of_file(bytes: Vec<u8>, label: String) -> Result<Image> {
        let (at, hash) = (label.clone(), sha256(&bytes));
        let bytes = if bytes.starts_with(b"\x89PNG") { formats::png_alone(bytes) } else { bytes };
        watched(&at, KINDS, foreign::Limits::PICTURE, move || Image::decoded(&bytes, &label, hash))?
    }

    fn decoded(bytes: &[u8], label: &str, sha256: String) -> Result<Image> {
        let broken = |e: ::image::ImageError| {
            Error::new(label, KINDS, e).remedy("check that the file is complete and of this kind")
        };
        if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            return Image::of_jpeg(bytes, label, sha256, jpeg::Way::default());
        }
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let mut reader = reader.map_err(|e| Error::new(label, KINDS, e))?;
        let format = reader.format();
        ensure!(format.is_some(), label, KINDS, "a file of an unknown kind");
        reader.limits(limits(MAX_ALLOC));
        let decoder = reader.into_decoder().map_err(broken)?;
        let (width, height) = decoder.dimensions();
        let size = (height as usize, width as usize);
        check_size(label, size)?;
        let float = |stored| matches!(stored, ExtendedColorType::Rgb32F | ExtendedColorType::Rgba32F);
        let stored = decoder.original_color_type();
        ensure!(!float(stored), label, CHANNELS, format!("{stored:?}"));
        let mut alpha = None;
        let (size, pixels, was_rgb) = match (format, decoder.original_color_type()) {
            (Some(ImageFormat::Gif), _) => {
                let (size, pixels) =
                    formats::gif(bytes, |size| check_size(label, size)).map_err(|e| e.within(label))?;
                (size, pixels, false)
            }
            (Some(ImageFormat::Tiff), ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16) => {
                (size, formats::cmyk_tiff(bytes, MAX_ALLOC).map_err(|e| e.within(label))?, false)
            }
            (_, stored) => {
                let decoded = DynamicImage::from_decoder(decoder).map_err(broken)?;
                let was_rgb = matches!(decoded, DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgb16(_));
                alpha = alpha_of(&decoded).filter(|_| formats::stores_alpha(bytes));
                let rgb = to_rgb(decoded, stored == ExtendedColorType::L16);
                let mut rgb = rgb.ok_or_else(|| Error::new(label, CHANNELS, format!("{stored:?}")))?;
                if format == Some(ImageFormat::Bmp) {
                    formats::bmp(bytes, &mut rgb).map_err(|e| e.within(label))?;
                }
                (size, rgb, was_rgb)
            }
        };
        let image = Image::new(label.to_owned(), size.0, size.1, pixels, sha256, was_rgb)?;
        let image = image.asking(metadata::orientation(bytes), alpha);
        let image = if lossy::is_webp(bytes) { image.of_lossy(bytes) } else { image };
        // Pillow turns a TIFF when it loads it.
        Ok(if format == Some(ImageFormat::Tiff) { image.upright() } else { image })
    }
}

impl Image {
    /// The image of a JPEG file, decoded in one way.
    pub(super) fn of_jpeg(bytes: &[u8], label: &str, sha256: String, way: jpeg::Way) -> Result<Image> {
        let read = jpeg::decode(bytes, way, |size| check_size(label, size));
        let read = read.map_err(|e| Error { at: label.into(), ..e })?;
        let image = Image::new(label.to_owned(), read.size.0, read.size.1, read.rgb, sha256, read.colour)?;
        Ok(image.asking(metadata::orientation(bytes), None).of_lossy(bytes))
    }
}

/// The alpha of an image with RGB and alpha.
fn alpha_of(image: &DynamicImage) -> Option<Vec<u8>> {
    match image {
        DynamicImage::ImageRgba8(i) => Some(i.pixels().map(|p| p.0[3]).collect()),
        DynamicImage::ImageRgba16(i) => Some(i.pixels().map(|p| (p.0[3] >> 8) as u8).collect()),
        _ => None,
    }
}

/// Fails if an image has too many pixels. Spec: C4.14a
fn check_size(label: &str, (height, width): (usize, usize)) -> Result<()> {
    let fits = height as u128 * width as u128 <= u128::from(MAX_PIXELS) && width.max(height) <= MAX_SIDE;
    let want = format!("at most {MAX_PIXELS} pixels, no side over {MAX_SIDE}");
    ensure!(fits, label, want, format!("{height} × {width}"), "scale the image down");
    Ok(())
}

/// Pillow's conversions to RGB. `grey16`: the file holds 16-bit grey without alpha, which Pillow clips. Spec: T4.6
fn to_rgb(image: DynamicImage, grey16: bool) -> Option<Vec<u8>> {
    let narrow = |v: u16| if grey16 { v.min(255) as u8 } else { (v >> 8) as u8 };
    let grey = |v: u8| [v; 3];
    Some(match image {
        DynamicImage::ImageRgb8(i) => i.into_raw(),
        DynamicImage::ImageRgba8(i) => i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        DynamicImage::ImageLuma8(i) => i.pixels().flat_map(|p| grey(p.0[0])).collect(),
        DynamicImage::ImageLumaA8(i) => i.pixels().flat_map(|p| grey(p.0[0])).collect(),
        DynamicImage::ImageRgb16(i) => i.pixels().flat_map(|p| p.0.map(narrow)).collect(),
        DynamicImage::ImageRgba16(i) => i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(narrow)).collect(),
        DynamicImage::ImageLuma16(i) => i.pixels().flat_map(|p| grey(narrow(p.0[0]))).collect(),
        DynamicImage::ImageLumaA16(i) => i.pixels().flat_map(|p| grey(narrow(p.0[0]))).collect(),
        _ => return None,
    })
}
