//! What towers over square tiles share: groups of tiles that bound memory, the patch embedding, and how a layer is shown.

use crate::kernel::patches;
use crate::layer::Linear;
use crate::num::Real;
use crate::pass::Pass;
use crate::stage::{Site, Stage};
use ndarray::{Array2, Array3, ArrayView4, s};

/// Rows (tiles · tokens) that go through a tower at once, to bound its memory (C5.1a, C5.11a).
const ROWS_AT_ONCE: usize = 1500;

/// Rows of an image that a tower has in hand at once; pixels: the shape [tiles, 3, S, S], or [patches, …] of all rows.
pub(crate) fn rows_at_once(pixels: &[usize], patch: usize) -> usize {
    match *pixels {
        [tiles, _, height, width] => {
            let tile = (height / patch) * (width / patch);
            (tiles * tile).min(ROWS_AT_ONCE.max(tile))
        }
        _ => pixels[0],
    }
}

/// Puts tiles through a tower some at a time; all at once where the pass is watched, since stages are shown whole.
///
/// pixels: [tiles, channels, S, S], `tower`: some of them → [their tokens, width] → [tiles, tokens, width].
/// Spec: C5.1a, C5.11a
pub(super) fn in_groups<T: Real>(
    pass: &mut Pass<'_, T>,
    pixels: ArrayView4<'_, f32>,
    (tokens, width): (usize, usize),
    mut tower: impl FnMut(&mut Pass<'_, T>, ArrayView4<'_, f32>) -> Array2<T>,
) -> Array3<T> {
    let tiles = pixels.dim().0;
    let at_once = if pass.is_watched() { tiles.max(1) } else { (ROWS_AT_ONCE / tokens).max(1) };
    let mut features = Array3::from_elem((tiles, tokens, width), T::ZERO);
    for first in (0..tiles).step_by(at_once) {
        let range = first..tiles.min(first + at_once);
        let found = tower(pass, pixels.slice(s![range.clone(), .., .., ..]));
        let Ok(found) = found.to_shape((range.len(), tokens, width)) else {
            unreachable!("E5.1: tiles · tokens rows")
        };
        features.slice_mut(s![range, .., ..]).assign(&found);
    }
    features
}

/// Each patch through the embedding: [tiles · patches, d_v]. Spec: E5.1, E5.11, R3.14, R10.2
pub(super) fn embedded<T: Real>(
    pass: &Pass<'_, T>,
    embedding: &Linear,
    pixels: ArrayView4<'_, f32>,
    patch: usize,
) -> Array2<T> {
    let patches = pass.store(patches(pixels, patch));
    embedding.forward(pass, patches.view())
}

/// Shows the state after a layer; gives back what the pass continues with. x: [tiles · tokens, d_v] → the same.
pub(super) fn shown<T: Real>(pass: &mut Pass<'_, T>, layer: usize, x: Array2<T>, tokens: usize) -> Array2<T> {
    let (rows, d) = x.dim();
    pass.show_as(Stage::layer(Site::VisionOut, layer), [rows / tokens, tokens, d], x)
}
