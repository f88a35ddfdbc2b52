//! Qwen2-VL's encoder: a tower whose patches attend within their frame, and a merger that turns 2 × 2 patches into one
//! row. Source: transformers `modeling_qwen2_vl.py`.

use crate::config::{NormKind, PatchVitConfig};
use crate::error::Result;
use crate::family::encoder::{Encode, image_by_image, with_ratings};
use crate::family::patch_model::merger;
use crate::input::Prepared;
use crate::num::Real;
use crate::pass::Pass;
use crate::policy::Rate;
use crate::vision::{PatchVit, PatchVitParts, Projector, frames, places};
use crate::weights::Names;
use ndarray::{Array2, ArrayView2};

/// What the tower is made of.
pub const PARTS: PatchVitParts = PatchVitParts { norm: NormKind::Layer, bias: false, mlp: &["fc1", "fc2"] };

/// The part of the model before the language model: tower and merger. Spec: E5.7–E5.10
#[derive(Debug, Clone)]
pub struct Qwen2VlEncoder {
    merge: usize,
    tower: PatchVit,
    merger: Projector,
}

impl Qwen2VlEncoder {
    /// Loads tower and merger from a checkpoint. d: width of the language model.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, c: &PatchVitConfig, d: usize) -> Result<Self> {
        Ok(Qwen2VlEncoder {
            merge: c.merge,
            tower: PatchVit::load(names, c, PARTS)?,
            merger: merger(names, c, NormKind::Layer, d)?,
        })
    }

    /// The residual stream after the last layer, and the visual rows, with more columns if rows of the tower rate.
    ///
    /// patches: [n, 3 · temporal · p²], the patches of all images concatenated; grids: time, height and width of each
    /// image in patches; all grids together have n patches → [n, d_v] and [n / m², d]. Spec: E5.7–E5.10, R5.7
    pub fn rows<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        patches: ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
        rate: Option<Rate>,
    ) -> [Array2<T>; 2] {
        let x = self.tower.embedded(pass, patches);
        let at: Vec<[i64; 2]> = grids.iter().flat_map(|&grid| places(grid, self.merge)).collect();
        let frames = frames(grids);
        let (features, ratings) = self.tower.features(pass, x, &at, |_| &frames, |_, _, _| (), rate);
        let rows = self.merger.forward(pass, features.view()); // E5.10
        [features, with_ratings(rows, ratings.view())]
    }
}

impl Encode for Qwen2VlEncoder {
    /// Spec: E5.7–E5.10, C5.7a
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rate>) -> Array2<T> {
        image_by_image(pass, prompt, |pass, patches, grids| {
            let [_, rows] = self.rows(pass, patches, grids, rate);
            rows
        })
    }
}
