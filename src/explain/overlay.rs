//! The image with bright kept patches and dimmed evicted patches: SVG for papers, PNG for issues.

use super::{Explained, Told};
use crate::error::{Error, Result, ensure};
use crate::input::Image;
use base64::{Engine, prelude::BASE64_STANDARD};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage, codecs::png::PngEncoder, imageops};
use ndarray::Array2;
use std::fmt::Write;

/// The brightness of evicted patches.
const DIM: f64 = 0.22;
/// The longest side of an image inside a page, in pixels.
const SHOWN: u32 = 1600;
/// A picture in a page is a JPEG if its PNG has more bytes than this.
const BULKY: usize = 1 << 20;

/// The layers that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lit {
    /// One layer, from 0.
    Layer(usize),
    /// All layers: the brightness of a token is the share of layers that keep it.
    All,
}

/// Checks that the image and the layer exist.
///
/// # Errors
/// There is no such image or no such layer.
pub fn check_shown(image: usize, images: usize, lit: Lit, layers: usize) -> Result<()> {
    ensure!(image < images, "--which", from_0("an image", images), image);
    match lit {
        Lit::Layer(layer) => ensure!(layer < layers, "--layer", from_0("a layer", layers), layer),
        Lit::All => {}
    }
    Ok(())
}

impl Explained {
    /// The brightness of each visual token, 0 … 1.
    fn light(&self, told: &Told, lit: Lit) -> Vec<f64> {
        let kept = self.kept(told);
        match lit {
            Lit::All => kept.mean_axis(ndarray::Axis(0)).map(|mean| mean.to_vec()).unwrap_or_default(),
            Lit::Layer(layer) => kept.row(layer).to_vec(),
        }
    }

    /// The overlay of one image as SVG; the SVG contains the image.
    ///
    /// # Errors
    /// The image, the policy or the layer does not exist; an image cannot be encoded.
    pub fn svg(&self, image: usize, told: usize, lit: Lit) -> Result<String> {
        let (picture, told) = self.pick(image, told, lit)?;
        let ((height, width), light) = (picture.size(), self.light(told, lit));
        let mut mask = String::new();
        for (spot, light) in
            self.spots().iter().zip(light).filter(|(s, light)| s.pictures.contains(&image) && *light > 0.0)
        {
            if let Some([top, left, bottom, right]) = spot.region {
                let (w, h) = (right - left, bottom - top);
                let _ = write!(
                    mask,
                    "<rect x=\"{left:.2}\" y=\"{top:.2}\" width=\"{w:.2}\" height=\"{h:.2}\" opacity=\"{light:.3}\"/>"
                );
            }
        }
        let source = embedded(picture)?;
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
             <defs><image id=\"i\" width=\"{width}\" height=\"{height}\" href=\"{source}\"/><mask id=\"m\" fill=\"#fff\">\
             {mask}</mask></defs>\n<rect width=\"100%\" height=\"100%\"/><use href=\"#i\" opacity=\"{DIM}\"/>\
             <use href=\"#i\" mask=\"url(#m)\"/>\n</svg>\n"
        ))
    }

    /// The overlay of one image as PNG, in the image's own size.
    ///
    /// # Errors
    /// As [`Explained::svg`].
    pub fn png(&self, image: usize, told: usize, lit: Lit) -> Result<Vec<u8>> {
        let (picture, told) = self.pick(image, told, lit)?;
        let ((height, width), light) = (picture.size(), self.light(told, lit));
        let mut dark = Array2::<f64>::ones((height, width));
        for (spot, light) in self.spots().iter().zip(light).filter(|(s, _)| s.pictures.contains(&image)) {
            let Some([top, left, bottom, right]) = spot.region else { continue };
            // A pixel belongs to the region that contains the pixel's centre.
            let (rows, columns) = (pixels(top, bottom, height), pixels(left, right, width));
            dark.slice_mut(ndarray::s![rows, columns]).mapv_inplace(|d| d * (1.0 - light));
        }
        let rgb = picture.rgb();
        let bytes: Vec<u8> = rgb
            .indexed_iter()
            .map(|((y, x, _), &v)| (f64::from(v) * (DIM + (1.0 - DIM) * (1.0 - dark[[y, x]]))).round() as u8)
            .collect();
        encode(&bytes, (height, width), picture.label())
    }

    fn pick(&self, image: usize, told: usize, lit: Lit) -> Result<(&Image, &Told)> {
        let policies = self.told.len();
        let told = self.told.get(told).ok_or_else(|| Error::new("policy", from_0("a policy", policies), told))?;
        check_shown(image, self.images.len(), lit, told.plan.kept.len())?;
        Ok((&self.images[image], told))
    }
}

/// The allowed values of an index from 0.
fn from_0(what: &str, count: usize) -> String {
    match count {
        0 | 1 => format!("0, the only {}", what.trim_start_matches("an ").trim_start_matches("a ")),
        _ => format!("{what} from 0 to {}", count - 1),
    }
}

/// The pixels whose centres lie between `from` and `to`.
fn pixels(from: f64, to: f64, n: usize) -> std::ops::Range<usize> {
    let at = |x: f64| ((x - 0.5).ceil().max(0.0) as usize).min(n);
    at(from)..at(to).max(at(from))
}

/// An image as a data URI, at most [`SHOWN`] pixels on a side: PNG, or JPEG if the PNG would be large.
pub(super) fn embedded(image: &Image) -> Result<String> {
    let (height, width) = image.size();
    let bytes: Vec<u8> = image.rgb().iter().copied().collect();
    let at = |e: &dyn std::fmt::Display| Error::new(image.label(), "an image that can be encoded", e);
    let mut rgb = RgbImage::from_raw(width as u32, height as u32, bytes).ok_or_else(|| at(&"its size"))?;
    let longest = rgb.width().max(rgb.height());
    if longest > SHOWN {
        let shrunk = |side: u32| (u64::from(side) * u64::from(SHOWN) / u64::from(longest)).max(1) as u32;
        rgb = imageops::resize(&rgb, shrunk(rgb.width()), shrunk(rgb.height()), imageops::FilterType::Triangle);
    }
    let png = encode(&rgb, (rgb.height() as usize, rgb.width() as usize), image.label())?;
    if png.len() <= BULKY {
        return Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&png)));
    }
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 85).encode_image(&rgb).map_err(|e| at(&e))?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(&jpeg)))
}

fn encode(bytes: &[u8], (height, width): (usize, usize), label: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let done = PngEncoder::new(&mut out).write_image(bytes, width as u32, height as u32, ExtendedColorType::Rgb8);
    done.map_err(|e| Error::new(label, "an image that can be encoded", e))?;
    Ok(out)
}
