//! Pixels of lossy images: the truth of a pixel is a range, because programs decode these images otherwise. A candidate
//! is compared with the nearest grey level of the range. Spec: D4.18, D10.14

use super::{Bundle, BundleWriter};
use crate::error::Result;
use crate::input::PixelLayout;
use crate::input::prepared::Lossy;
use ndarray::ArrayViewD;

/// The tensors of a replay's truth that hold the ranges and the size of a grey level, in the shape of `input.pixels`.
const NAMES: [&str; 5] =
    ["noise.pixels.least", "noise.pixels.most", "noise.pixels.low", "noise.pixels.high", "noise.pixels.level"];
/// How many grey levels a value may be outside of what the decoders give: luma and chroma are off by one each, which makes
/// 3 levels; a bicubic filter makes 25/16 of it, and rounds.
const REACH: f64 = 5.0;
/// The most grey levels, squared, that all values together may be outside in the mean: red and blue cut off two terms, green
/// three, and a term that is cut off is ½ too small with a variance of 1/12.
const TOGETHER: f64 = (2.0 * (1.0 + 2.0 / 12.0) + (2.25 + 3.0 / 12.0)) / 3.0;

/// Writes the ranges.
///
/// # Errors
/// As the writer.
pub(super) fn put(out: &mut BundleWriter, layout: PixelLayout, lossy: &Lossy) -> Result<()> {
    for (k, name) in NAMES.into_iter().enumerate() {
        let views: Vec<ArrayViewD<'_, f32>> = lossy.pixels.iter().map(|hull| hull[k].view()).collect();
        let all = layout.join(&views);
        out.put_f32(name, all.shape(), &all.iter().copied().collect::<Vec<f32>>())?;
    }
    Ok(())
}

/// The ranges of all pixels.
pub(super) struct Hull {
    /// What usual decoders give.
    usual: [Vec<f64>; 2],
    /// What any filter of chroma gives.
    any: [Vec<f64>; 2],
    /// The size of a grey level; 0 where nothing is lossy.
    level: Vec<f64>,
}

impl Hull {
    /// The ranges in a replay's truth, for so many pixels; none if no image is lossy.
    pub fn of(golden: &Bundle, pixels: usize) -> Option<Hull> {
        let [least, most, low, high, level] = NAMES.map(|name| golden.get(name).and_then(|_| golden.flat(name).ok()));
        let hull = Hull { usual: [least?, most?], any: [low?, high?], level: level? };
        (hull.level.len() == pixels).then_some(hull)
    }

    /// How many grey levels a value is outside of what usual decoders give.
    fn outside(&self, i: usize, got: f64) -> f64 {
        let [least, most] = &self.usual;
        ((least[i] - got).max(got - most[i]).max(0.0) / self.level[i]).round()
    }

    /// The honest pixels that are nearest to a candidate's. Spec: D10.14
    pub fn nearest(&self, truth: &[f64], got: &[f64]) -> Vec<f64> {
        let lossy = || (0..truth.len()).filter(|&i| self.level[i] > 0.0 && got[i].is_finite());
        let squares: f64 = lossy().map(|i| self.outside(i, got[i]).powi(2)).sum();
        let together = squares <= TOGETHER * lossy().count() as f64;
        let (ends, reach) = if together { (&self.any, REACH) } else { (&self.usual, 0.0) };
        let mut nearest = truth.to_vec();
        for i in lossy() {
            let (least, level) = (ends[0][i], self.level[i]);
            let steps = ((ends[1][i] - least) / level).round();
            nearest[i] = least + ((got[i] - least) / level).round().clamp(-reach, steps + reach) * level;
        }
        nearest
    }

    /// What a candidate that passes is told, if its pixels are not those of libjpeg-turbo.
    pub fn words(&self, truth: &[f64], got: &[f64]) -> String {
        let off = |i: usize| ((got[i] - truth[i]) / self.level[i]).abs().round();
        match (0..truth.len()).filter(|&i| self.level[i] > 0.0).map(off).fold(0.0, f64::max) {
            0.0 => String::new(),
            1.0 => "a grey level off in places, as decoders of lossy images differ".into(),
            most => format!("up to {most} grey levels off, as decoders of lossy images differ"),
        }
    }
}

/// The note on a prompt's lossy images.
pub(super) fn note(lossy: &Lossy) -> String {
    let (names, are) = match &lossy.images[..] {
        [one] => (one.clone(), "is"),
        [one, two] => (format!("{one} and {two}"), "are"),
        [one, rest @ ..] => (format!("{one} and {} others", rest.len()), "are"),
        [] => unreachable!("D4.18: a lossy image"),
    };
    format!("{names} {are} lossy, and programs decode lossy images differently: the pixels of each usual decoder pass")
}
