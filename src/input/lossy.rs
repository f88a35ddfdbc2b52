//! What other programs make of a lossy image. JPEG leaves the precision of the DCT and the filter between chroma samples
//! to the decoder; WebP leaves the filter. Spec: D4.18

use super::image::Image;
use super::jpeg::{Chroma, Way};
use crate::error::{Error, Result};
use crate::foreign::{self, watched};
use image_webp::{UpsamplingMethod, WebPDecoder};
use std::io::Cursor;

/// The ways of JPEG other than libjpeg-turbo's default, which [`Image::open`] takes.
const WAYS: [Way; OTHERS] = [
    Way { fast: false, chroma: Chroma::Plain },
    Way { fast: true, chroma: Chroma::Fancy },
    Way { fast: true, chroma: Chroma::Plain },
    Way { fast: false, chroma: Chroma::Least },
    Way { fast: false, chroma: Chroma::Most },
    Way { fast: true, chroma: Chroma::Least },
    Way { fast: true, chroma: Chroma::Most },
];
/// The number of other ways.
pub const OTHERS: usize = 7;
/// The first of them are those of whole programs; the rest are ends of the range of every filter.
pub const PROGRAMS: usize = 3;

/// Whether this is a file of lossy WebP without an animation.
pub(super) fn is_webp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") && opened(bytes).is_some_and(|mut d| d.is_lossy())
}

fn opened(bytes: &[u8]) -> Option<WebPDecoder<Cursor<&[u8]>>> {
    WebPDecoder::new(Cursor::new(bytes)).ok().filter(|decoder| !decoder.is_animated())
}

impl Image {
    /// What another decoder makes of the file: of JPEG 0 plain chroma, 1 the fast DCT, 2 both, and from
    /// [`PROGRAMS`] on the least and the greatest colours by either DCT; of WebP 0 plain chroma. None if the image is not lossy, or if there are not so many decoders.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn decoded_by(&self, other: usize) -> Result<Option<Image>> {
        let Some(file) = self.file().filter(|_| other < OTHERS) else { return Ok(None) };
        let (label, sha256) = (self.label().to_owned(), self.sha256().to_owned());
        if !file.starts_with(b"RIFF") {
            return Image::of_jpeg(&file, &label, sha256, WAYS[other]).map(Some);
        }
        if other > 0 {
            return Ok(None);
        }
        let (size, at) = (self.size(), label.clone());
        let plain = move || {
            let mut decoder = opened(&file)?;
            decoder.set_lossy_upsampling(UpsamplingMethod::Simple);
            let mut bytes = vec![0; decoder.output_buffer_size()?];
            decoder.read_image(&mut bytes).ok()?;
            let channels = bytes.len() / (size.0 * size.1);
            Some((bytes.chunks_exact(channels).flat_map(|p| [p[0], p[1], p[2]]).collect::<Vec<u8>>(), file))
        };
        let decoded = watched(&at, "a WebP file", foreign::Limits::PICTURE, plain)?;
        let (rgb, file) = decoded.ok_or_else(|| Error::new(&label, "a WebP file", "one that ends early"))?;
        let image = Image::new(label, size.0, size.1, rgb, sha256, self.was_rgb())?;
        Ok(Some(image.asking(self.orientation(), self.alpha().cloned()).of_lossy(&file)))
    }
}
