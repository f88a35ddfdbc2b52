//! Images and frames of any size as patches. Squares of patches become rows, and the patches have the order of these
//! rows. Spec: E4.13, D4.5

use super::section::Section;
use super::sizes::Sizes;
use crate::error::{Result, ensure};
use ndarray::{Array2, ArrayView3};

impl Sizes {
    /// frames: [h, w, 3] each, sides multiples of m·p, as many frames as one patch covers → patches through the level
    /// tables. Spec: E4.13, D4.5
    pub(crate) fn patches(&self, frames: &[ArrayView3<'_, u8>], levels: &[[f32; 256]; 3]) -> Array2<f32> {
        let (h, w, _) = frames[0].dim();
        let (p, m, temporal) = (self.patch, self.merge, frames.len());
        let shape = (h / p * (w / p), 3 * temporal * p * p);
        let across = w / (m * p);
        Array2::from_shape_fn(shape, |(patch, k)| {
            let (square, part) = (patch / (m * m), patch % (m * m));
            let (channel, time, y, x) = (k / (temporal * p * p), k / (p * p) % temporal, k / p % p, k % p);
            let row = (square / across * m + part / m) * p + y;
            let column = (square % across * m + part % m) * p + x;
            levels[channel][usize::from(frames[time][[row, column, channel]])]
        })
    }

    /// The size at which an image is read: its own size if `resized` is false, otherwise as [`fit`](Self::fit).
    ///
    /// # Errors
    /// As [`fit`](Self::fit); an image that is not resized and whose size is no whole number of squares.
    pub(crate) fn read_at(&self, resized: bool, size: (usize, usize)) -> Result<(usize, usize)> {
        if resized {
            return self.fit(size);
        }
        let unit = self.unit();
        ensure!(
            size.0 > 0 && size.1 > 0 && size.0.is_multiple_of(unit) && size.1.is_multiple_of(unit),
            "do_resize: false",
            format!("images whose sides are multiples of {unit} pixels"),
            format!("{} × {}", size.0, size.1)
        );
        Ok(size)
    }
}

/// The limits `min_pixels` and `max_pixels`; they take precedence over `shortest_edge` and `longest_edge` of `size`.
///
/// # Errors
/// A limit that is not a number of pixels above 0. Spec: T4.7
pub(crate) fn limits(images: &Section, (least, most): (u64, u64)) -> Result<(usize, usize)> {
    const WANT: &str = "{\"shortest_edge\": pixels, \"longest_edge\": pixels}, or min_pixels and max_pixels beside it";
    let size = images.get("size");
    let limit = |edge: &str, key: &str, default: u64| {
        if let Some(own) = images.get(key) {
            let own = own.as_u64().filter(|&n| n > 0);
            return own.ok_or_else(|| images.wrong(key, "a number of pixels above 0"));
        }
        let of = size.map_or(Some(default), |size| size.get(edge)?.as_u64()).filter(|&n| n > 0);
        of.ok_or_else(|| images.wrong("size", WANT))
    };
    let (min, max) = (limit("shortest_edge", "min_pixels", least)?, limit("longest_edge", "max_pixels", most)?);
    Ok((min as usize, max as usize))
}
