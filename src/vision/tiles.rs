//! Code shared by towers that read square tiles: groups of tiles that bound memory, the patch embedding, and the
//! function that shows a layer's state to the watcher.

use crate::kernel::patches;
use crate::layer::Linear;
use crate::num::Real;
use crate::pass::Pass;
use crate::stage::{Site, Stage};
use ndarray::{Array2, Array3, ArrayView4, s};

/// The number of rows (tiles · tokens) that go through a tower at once. It bounds the tower's memory (C5.1a, C5.11a).
const ROWS_AT_ONCE: usize = 1500;

/// The number of an image's rows that a tower holds in memory at once. pixels: the shape of the image's pixels. If the
/// shape is [tiles, 3, S, S], the tower works on groups of tiles; if it is [patches, …], the tower holds all patches.
pub(crate) fn rows_at_once(pixels: &[usize], patch: usize) -> usize {
    match *pixels {
        [tiles, _, height, width] => {
            let tile = (height / patch) * (width / patch);
            (tiles * tile).min(ROWS_AT_ONCE.max(tile))
        }
        _ => pixels[0],
    }
}

/// Runs tiles through a tower in groups. A watched pass runs all tiles at once, because it shows whole stages.
///
/// pixels: [tiles, channels, S, S] → [tiles, tokens, width]. `tower` maps the pixels of a group of tiles to
/// [tiles of the group · tokens, width].
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

/// The patch embedding of every patch: [tiles · patches, d_v]. Spec: E5.1, E5.11, R3.14, R10.2
pub(super) fn embedded<T: Real>(
    pass: &Pass<'_, T>,
    embedding: &Linear,
    pixels: ArrayView4<'_, f32>,
    patch: usize,
) -> Array2<T> {
    let patches = pass.store(patches(pixels, patch));
    embedding.forward(pass, patches.view())
}

/// Shows the state after a layer and returns the state that the pass continues with.
/// x: [tiles · tokens, d_v] → [tiles · tokens, d_v].
pub(super) fn shown<T: Real>(pass: &mut Pass<'_, T>, layer: usize, x: Array2<T>, tokens: usize) -> Array2<T> {
    let (rows, d) = x.dim();
    pass.show_as(Stage::layer(Site::VisionOut, layer), [rows / tokens, tokens, d], x)
}
