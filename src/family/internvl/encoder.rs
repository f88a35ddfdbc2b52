//! InternVL2's encoder: InternViT over tiles, pixel shuffle, a projector with a norm; the rows of a tile are consecutive.
//! Source: InternVL2's `modeling_internvl_chat.py`; transformers `modeling_internvl.py`.

use super::config::InternVlConfig;
use crate::config::NormKind;
use crate::error::Result;
use crate::family::encoder::{Encode, with_ratings};
use crate::input::{Prepared, PreparedImage};
use crate::num::Real;
use crate::pass::Pass;
use crate::policy::Rate;
use crate::stage::{Site, Stage};
use crate::vision::{InternVit, Projector, shuffled, shuffled_rows};
use crate::weights::Names;
use ndarray::{Array2, Array4};

/// ε of the projector's layer norm; PyTorch's default.
const EPS: f64 = 1e-5;

/// The part of the model before the language model: tower and projector.
#[derive(Debug, Clone)]
pub(super) struct InternVl {
    pub merge: usize,
    pub transposed: bool,
    pub tower: InternVit,
    pub projector: Projector,
}

/// Loads the projector, which turns each square of patches into one row of the language model.
///
/// # Errors
/// A tensor is missing, or its shape differs from the configuration.
pub fn projector(names: &Names<'_>, config: &InternVlConfig) -> Result<Projector> {
    let (square, d) = (config.vision.hidden * config.merge.pow(2), config.text.hidden);
    let parts = ["projector.norm", "projector.fc1", "projector.fc2"];
    Projector::load(names, parts, (NormKind::Layer, square, EPS), [square, d, d], config.activation)
}

impl Encode for InternVl {
    /// Spec: E5.11–E5.15, E9.30
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rate>) -> Array2<T> {
        let pixels: Array4<f32> = PreparedImage::joined(&prompt.images);
        let (state, ratings) = self.tower.rated_features(pass, pixels.view(), rate);
        let features = shuffled(state.view(), self.merge, self.transposed); // E5.14
        let features = pass.show(Stage::once(Site::Features), features);
        let rows = self.projector.forward(pass, features.view()); // E5.15
        let ratings = shuffled_rows(ratings, state.dim().0, self.merge, self.transposed);
        with_ratings(rows, ratings.view())
    }
}
