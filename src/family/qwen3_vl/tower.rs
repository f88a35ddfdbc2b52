//! Qwen3-VL's vision tower and mergers: patches of images of any size, learned positions that are interpolated, rotary
//! positions, attention within each frame, and features of several layers. Source: transformers `modeling_qwen3_vl.py`.

use super::config::{Qwen3Vl, Qwen3VlConfig};
use crate::config::{Activation, NormKind};
use crate::error::Result;
use crate::family::encoder::{Encode, image_by_image, with_ratings};
use crate::input::Prepared;
use crate::num::Real;
use crate::pass::Pass;
use crate::policy::Rate;
use crate::vision::{PATCH_VIT_EPS, PatchVit, PatchVitParts, Projector, frames, interpolated, places};
use crate::weights::{Matrix, Names};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

const PARTS: PatchVitParts = PatchVitParts { norm: NormKind::Layer, bias: true, mlp: &["linear_fc1", "linear_fc2"] };

/// Tower and mergers. Spec: E5.19, E5.20
#[derive(Debug, Clone)]
pub struct Qwen3VlTower {
    merge: usize,
    /// [positions, d_v], of which the first side · side are a grid, row by row.
    position_embedding: Matrix,
    tower: PatchVit,
    merger: Projector,
    /// The tower layers whose features DeepStack uses, each with its merger.
    deepstack: Vec<(usize, Projector)>,
}

impl Qwen3VlTower {
    /// Loads tower and mergers from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, config: &Qwen3VlConfig) -> Result<Self> {
        let (c, Qwen3Vl { positions, tapped, deepstack }) = (&config.vision, &config.own);
        let square = c.hidden * c.merge.pow(2);
        // The merger of the rows norms each patch, the mergers of DeepStack norm each square of patches.
        let merger = |at: &str, normed| {
            let parts = ["norm", "linear_fc1", "linear_fc2"].map(|part| format!("vision.{at}.{part}"));
            let norm = (NormKind::Layer, normed, PATCH_VIT_EPS);
            let widths = [square, square, config.text.hidden];
            Projector::load(names, parts.each_ref().map(String::as_str), norm, widths, Activation::GeluErf)
        };
        let deepstack = deepstack.iter().map(|&layer| {
            let place = tapped.iter().position(|&tapped| tapped == layer).unwrap_or_default();
            Ok((layer, merger(&format!("deepstack_merger_list.{place}"), square)?))
        });
        Ok(Qwen3VlTower {
            merge: c.merge,
            tower: PatchVit::load(names, c, PARTS)?,
            position_embedding: names.matrix("vision.pos_embed.weight", *positions, c.hidden)?,
            merger: merger("merger", c.hidden)?,
            deepstack: deepstack.collect::<Result<_>>()?,
        })
    }

    /// The visual rows of images, and beside them the rows of DeepStack: [n / m², d · (1 + |deepstack|)]; more columns if
    /// rows of the tower rate.
    ///
    /// patches: [n, 3 · temporal · p²], the patches of all images concatenated; grids: time, height and width of each
    /// image in patches. Spec: E5.19, E5.20, R5.19
    pub fn rows<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        patches: ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
        rate: Option<Rate>,
    ) -> Array2<T> {
        let x = self.tower.embedded(pass, patches);
        let side = self.position_embedding.rows().isqrt();
        let learned = pass.store(interpolated(&self.position_embedding, side, grids, self.merge));
        let x = pass.store(x + learned); // E5.19
        let at: Vec<[i64; 2]> = grids.iter().flat_map(|&grid| places(grid, self.merge)).collect();
        let frames = frames(grids);
        let mut deepstack = Vec::with_capacity(self.deepstack.len());
        let tap = |pass: &Pass<'_, T>, layer: usize, x: &Array2<T>| {
            let merger = self.deepstack.iter().find(|(tapped, _)| *tapped == layer);
            deepstack.extend(merger.map(|(_, merger)| merger.forward(pass, x.view()))); // E5.20
        };
        let (features, ratings) = self.tower.features(pass, x, &at, |_| &frames, tap, rate);
        let rows = self.merger.forward(pass, features.view()); // E5.10
        let all: Vec<_> = std::iter::once(&rows).chain(&deepstack).map(|rows| rows.view()).collect();
        let all = concatenate(Axis(1), &all).unwrap_or_else(|_| unreachable!("E5.20: as many rows from each layer"));
        with_ratings(all, ratings.view())
    }
}

impl Encode for Qwen3VlTower {
    /// Spec: E5.19, E5.20, C5.19a
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rate>) -> Array2<T> {
        image_by_image(pass, prompt, |pass, patches, grids| self.rows(pass, patches, grids, rate))
    }
}
