//! Qwen2-VL's encoder: a tower over patches of images of any size, and a merger that turns 2 × 2 patches into one row.
//! The decoder uses M-RoPE. Source: transformers `modeling_qwen2_vl.py`.

use super::config::Qwen2VlVisionConfig;
use super::tower::{EPS, Qwen2VlTower};
use crate::config::{Activation, NormKind};
use crate::error::Result;
use crate::family::encoder::{Encode, image_by_image};
use crate::input::Prepared;
use crate::layer::{Linear, Mlp, Norm};
use crate::num::Real;
use crate::pass::Pass;
use crate::stage::{Site, Stage};
use crate::vision::Projector;
use crate::weights::Names;
use ndarray::Array2;

/// The part of the model before the language model: tower and merger.
#[derive(Debug, Clone)]
pub(super) struct Qwen2Vl {
    pub tower: Qwen2VlTower,
    pub merger: Projector,
}

/// Loads the merger, which turns each square of patches into one row of width d.
///
/// # Errors
/// A tensor is missing, or its shape differs from the configuration.
pub fn merger(names: &Names<'_>, config: &Qwen2VlVisionConfig, d: usize) -> Result<Projector> {
    let square = config.hidden * config.merge.pow(2);
    Ok(Projector {
        norm: Norm::load(names, "vision.merger.ln_q", NormKind::Layer, config.hidden, EPS)?,
        mlp: Mlp {
            fc1: Linear::load(names, "vision.merger.mlp.0", square, square, true)?,
            activation: Activation::GeluErf,
            fc2: Linear::load(names, "vision.merger.mlp.2", d, square, true)?,
        },
    })
}

impl Encode for Qwen2Vl {
    /// Spec: E5.7–E5.10, C5.7a
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared) -> Array2<T> {
        image_by_image(pass, prompt, |pass, patches, grids| {
            let features = self.tower.features(pass, patches, grids);
            let features = pass.show(Stage::once(Site::Features), features);
            self.merger.forward(pass, features.view()) // E5.10
        })
    }
}
