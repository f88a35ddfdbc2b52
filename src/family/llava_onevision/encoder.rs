//! LLaVA-OneVision's encoder: SigLIP, a two-layer projector, anyres packing with newline rows.
//! Source: transformers `modeling_llava_onevision.py`.

use super::config::LlavaOnevisionConfig;
use crate::error::Result;
use crate::family::encoder::Encode;
use crate::input::{Prepared, PreparedImage};
use crate::layer::{Linear, Mlp};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::stage::{Site, Stage};
use crate::vision::{Siglip, pack};
use crate::weights::Names;
use ndarray::{Array2, Array4, Axis, concatenate, s};

/// The part of the model before the language model: tower, projector and newline row.
#[derive(Debug, Clone)]
pub(super) struct LlavaOnevision {
    config: LlavaOnevisionConfig,
    tower: Siglip,
    projector: Mlp,
    newline: Vec<f32>,
}

impl LlavaOnevision {
    /// Loads tower, projector and newline row from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub(super) fn load(names: &Names<'_>, config: &LlavaOnevisionConfig) -> Result<Self> {
        let d = config.text.hidden;
        let linear =
            |name: &str, inputs| Linear::load(names, &format!("projector.{name}"), d, inputs, config.projector_bias);
        Ok(LlavaOnevision {
            tower: Siglip::load(names, &config.vision, config.used_layers())?,
            projector: Mlp {
                fc1: Linear {
                    // transformers passes the features of a single layer as a strided view. For a strided input,
                    // PyTorch adds the projection's bias in a separate operation (R10.6).
                    stored: if config.feature_layers.len() == 1 { Stored::Twice } else { Stored::Once },
                    ..linear("linear_1", config.vision.hidden * config.feature_layers.len())?
                },
                activation: config.projector_activation,
                fc2: linear("linear_2", d)?,
            },
            newline: names.vector("newline", d)?,
            config: config.clone(),
        })
    }
}

impl Encode for LlavaOnevision {
    /// Spec: E5.1, E5.5, C5.5a, E5.6
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared) -> Array2<T> {
        let d = self.config.text.hidden;
        let pixels: Array4<f32> = PreparedImage::joined(&prompt.images);
        let features = self.tower.features(pass, pixels.view(), &self.config.feature_layers); // E5.1
        let features = features.slice_move(s![.., usize::from(self.config.drop_first).., ..]);
        let features = pass.show(Stage::once(Site::Features), features);

        let (tiles, tokens, width) = features.dim();
        let features = features.to_shape((tiles * tokens, width)).unwrap_or_else(|_| unreachable!("E5.5: whole tiles"));
        let projected = self.projector.forward(pass, features.view()); // E5.5
        let projected = projected.to_shape((tiles, tokens, d)).unwrap_or_else(|_| unreachable!("E5.5: whole tiles"));

        let mut first = 0;
        let mut packed = Vec::with_capacity(prompt.images.len());
        for image in &prompt.images {
            let tiles = first..first + image.packing.tiles;
            packed.push(pack(projected.slice(s![tiles.clone(), .., ..]), &image.packing, &self.newline)); // E5.6
            first = tiles.end;
        }
        let views: Vec<_> = packed.iter().map(|p| p.view()).collect();
        concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E5.6: rows of one width"))
    }
}
