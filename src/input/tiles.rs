//! Cuts an image into the tiles of the grid with the closest shape, and adds a tile of the whole image. Source:
//! OpenGVLab's `dynamic_preprocess`; transformers 5.17 `crop_image_to_patches`.

use super::pixels::{Pixels, normalised};
use super::tiling::Tiling;
use crate::error::Result;
use crate::kernel::resample::resize;
use ndarray::{Array4, ArrayView3, s};

impl Tiling {
    /// The tiles of an image [h, w, 3]: [tiles, 3, S, S], with the whole image last.
    ///
    /// # Errors
    /// As [`grid`](Self::grid) and [`resize`]. Spec: E4.17
    pub(crate) fn cut(&self, pixels: &Pixels, rgb: ArrayView3<'_, u8>) -> Result<Array4<f32>> {
        let (side, scaled) = (self.tile, |size| resize(rgb, size, pixels.filter, pixels.resampler));
        let (h, w, _) = rgb.dim();
        let (down, across) = self.grid((h, w))?;
        let canvas = scaled((down * side, across * side))?;
        let whole = if self.has_thumbnail((down, across)) { Some(scaled((side, side))?) } else { None };
        let cut = (0..down * across).map(|i| {
            let (y, x) = (i / across * side, i % across * side);
            canvas.slice(s![y..y + side, x..x + side, ..])
        });
        let tiles: Vec<_> = cut.chain(whole.iter().map(|tile| tile.view())).collect();
        Ok(normalised(&pixels.levels(), &tiles, side))
    }
}
