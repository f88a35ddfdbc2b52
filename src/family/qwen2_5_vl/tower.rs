//! Qwen2.5-VL's vision tower and merger: RMS norms, gated MLPs, attention within windows and in some layers within whole
//! frames. Source: transformers `modeling_qwen2_5_vl.py`.

use super::config::Qwen25VlConfig;
use crate::config::NormKind;
use crate::error::Result;
use crate::family::encoder::{Encode, image_by_image, with_ratings};
use crate::family::patch_model::merger;
use crate::input::Prepared;
use crate::num::Real;
use crate::pass::Pass;
use crate::policy::Rate;
use crate::vision::{PatchVit, PatchVitParts, Projector, frames, places, windows};
use crate::weights::Names;
use ndarray::{Array2, ArrayView2, Axis};

const PARTS: PatchVitParts =
    PatchVitParts { norm: NormKind::Rms, bias: false, mlp: &["gate_proj", "up_proj", "down_proj"] };

/// Tower and merger. Spec: E5.17, E5.18
#[derive(Debug, Clone)]
pub struct Qwen25VlTower {
    merge: usize,
    window: usize,
    full: Vec<usize>,
    tower: PatchVit,
    merger: Projector,
}

impl Qwen25VlTower {
    /// Loads tower and merger from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, config: &Qwen25VlConfig) -> Result<Self> {
        Ok(Qwen25VlTower {
            merge: config.vision.merge,
            window: config.own.window,
            full: config.own.full.clone(),
            tower: PatchVit::load(names, &config.vision, PARTS)?,
            merger: merger(names, &config.vision, NormKind::Rms, config.text.hidden)?,
        })
    }

    /// The visual rows of images: [n / m², d], in the order of the squares; more columns if rows of the tower rate.
    ///
    /// patches: [n, 3 · temporal · p²], the patches of all images concatenated; grids: time, height and width of each
    /// image in patches. Spec: E5.17, E5.18, R5.17
    pub fn rows<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        patches: ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
        rate: Option<Rate>,
    ) -> Array2<T> {
        let m = self.merge;
        let unit = m * m;
        let (mut squares, mut in_windows, in_frames) = (Vec::new(), Vec::new(), frames(grids));
        for &[t, h, w] in grids {
            let (order, lengths) = windows([t, h / m, w / m], self.window);
            let first = squares.len();
            squares.extend(order.into_iter().map(|square| first + square));
            in_windows.extend(lengths.into_iter().map(|squares| squares * unit));
        }
        let order: Vec<usize> = squares.iter().flat_map(|&s| s * unit..(s + 1) * unit).collect();
        let x = self.tower.embedded(pass, patches.select(Axis(0), &order).view());
        let at: Vec<[i64; 2]> = grids.iter().flat_map(|&grid| places(grid, m)).collect();
        let at: Vec<[i64; 2]> = order.iter().map(|&patch| at[patch]).collect();
        let lengths = |layer: usize| if self.full.contains(&layer) { &in_frames[..] } else { &in_windows[..] };
        let (features, ratings) = self.tower.features(pass, x, &at, lengths, |_, _, _| (), rate); // E5.17
        let merged = with_ratings(self.merger.forward(pass, features.view()), ratings.view());
        let mut rows = merged.clone();
        for (row, &square) in merged.outer_iter().zip(&squares) {
            rows.row_mut(square).assign(&row); // E5.18
        }
        rows
    }
}

impl Encode for Qwen25VlTower {
    /// Spec: E5.17, E5.18, C5.17a
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rate>) -> Array2<T> {
        image_by_image(pass, prompt, |pass, patches, grids| self.rows(pass, patches, grids, rate))
    }
}
