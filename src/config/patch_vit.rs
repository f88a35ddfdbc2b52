//! The configuration of a tower over patches of images of any size, with two-dimensional rotary positions.
//!
//! Source: transformers 5.17, `models/qwen*_vl/configuration_*.py`.

use super::activation::Activation;
use super::features;
use super::json::Scope;
use crate::error::{Result, ensure};

/// Sizes and constants of a tower over patches. Spec: T5.3, T5.9, T5.10
#[derive(Debug, Clone, PartialEq)]
pub struct PatchVitConfig {
    /// d_v: width of the residual stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of heads; the size of a head, `hidden` / `heads`, is a multiple of 4.
    pub heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// p: side of a patch in pixels.
    pub patch: usize,
    /// Number of frames in a patch.
    pub temporal: usize,
    /// m: the side, in patches, of the square that becomes one row.
    pub merge: usize,
    /// θ: base of the rotary frequencies.
    pub rope_theta: f64,
    /// The MLP's activation.
    pub activation: Activation,
}

/// The field names and the defaults of a family's `vision_config`.
pub(crate) struct PatchVitForm {
    /// The accepted `model_type`s, first the default.
    pub model_types: [&'static str; 2],
    /// The field of d_v and its default.
    pub hidden: (&'static str, usize),
    /// The field of the language model's width.
    pub out: &'static str,
    pub layers: usize,
    /// The field of the MLP's width, its default, and whether it is a multiple of d_v.
    pub mlp: (&'static str, usize, bool),
    pub patch: usize,
    pub activation: Activation,
}

impl PatchVitConfig {
    /// Reads a `vision_config`; absent fields take transformers' defaults. width: d of the language model, into which the
    /// patches are merged.
    ///
    /// # Errors
    /// A field has the wrong type or size; another width.
    pub(crate) fn read(scope: &Scope<'_>, form: &PatchVitForm, width: usize) -> Result<PatchVitConfig> {
        let out = scope.size(form.out, 3584, (1, 1 << 20))?;
        let want = format!("the language model's hidden_size {width}, which the rows are merged into");
        ensure!(out == width, scope.at(form.out), want, out);
        scope.model_type(form.model_types[0], &form.model_types)?;
        let (name, default) = form.hidden;
        let hidden = scope.size(name, default, (1, 1 << 20))?;
        let (heads, rope_theta) = features::turned(scope, (name, hidden))?;
        scope.size("in_channels", 3, (3, 3))?;
        let (mlp, default, times) = form.mlp;
        let intermediate = match times {
            true => hidden * scope.size(mlp, default, (1, 1 << 10))?,
            false => scope.size(mlp, default, (1, 1 << 22))?,
        };
        Ok(PatchVitConfig {
            hidden,
            layers: scope.size("depth", form.layers, (1, 1024))?,
            heads,
            intermediate,
            patch: scope.size("patch_size", form.patch, (1, 1 << 10))?,
            temporal: scope.size("temporal_patch_size", 2, (1, 64))?,
            merge: scope.size("spatial_merge_size", 2, (1, 64))?,
            rope_theta,
            activation: Activation::read(scope, "hidden_act", form.activation)?,
        })
    }

    /// The number of values in a patch: 3 · temporal · p².
    pub fn numbers(&self) -> usize {
        3 * self.temporal * self.patch * self.patch
    }
}
