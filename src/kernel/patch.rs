//! Cutting tiles into patches, so that a patch embedding is a linear layer.

use crate::num::Real;
use ndarray::{Array2, ArrayView4};

/// The patches of every tile, row by row: pixels: [tiles, c, S, S] → [tiles · (S/p)², c·p·p], channel-major within a
/// patch like a convolution kernel. Pixels after the last whole patch are not read (C3.14a). The caller stores the
/// patches (R3.14).
/// Spec: E3.14
pub fn patches<T: Real>(pixels: ArrayView4<'_, f32>, patch: usize) -> Array2<T> {
    let (tiles, channels, height, width) = pixels.dim();
    let (down, across) = (height / patch, width / patch);
    Array2::from_shape_fn((tiles * down * across, channels * patch * patch), |(row, k)| {
        let (tile, at) = (row / (down * across), row % (down * across));
        let (c, y, x) = (k / (patch * patch), k / patch % patch, k % patch);
        T::of_f32(pixels[[tile, c, at / across * patch + y, at % across * patch + x]])
    })
}
