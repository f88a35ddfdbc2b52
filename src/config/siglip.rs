//! SigLIP's `vision_config`.
//!
//! Source: transformers 5.17, `models/siglip/configuration_siglip.py`.

use super::activation::Activation;
use super::json::Scope;
use crate::error::{Result, ensure};

/// Sizes and constants of a SigLIP vision tower. Spec: T5.1
#[derive(Debug, Clone, PartialEq)]
pub struct SiglipConfig {
    /// d_v: width of the residual stream.
    pub hidden: usize,
    /// Number of layers in the checkpoint.
    pub layers: usize,
    /// Number of heads; divides `hidden`.
    pub heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Side of a tile in pixels.
    pub image: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Colour channels; always 3.
    pub channels: usize,
    /// ε of the layer norms.
    pub norm_eps: f64,
    /// The MLP's activation.
    pub activation: Activation,
}

impl SiglipConfig {
    /// Reads a `vision_config`; absent fields take SigLIP's defaults.
    ///
    /// # Errors
    /// A field has the wrong type or size.
    pub(crate) fn read(scope: &Scope<'_>) -> Result<SiglipConfig> {
        scope.model_type("siglip_vision_model", &["siglip_vision_model"])?;
        let hidden = scope.size("hidden_size", 768, (1, 1 << 20))?;
        let heads = scope.heads("num_attention_heads", 12)?;
        ensure!(
            hidden % heads == 0,
            scope.at("num_attention_heads"),
            format!("a divisor of hidden_size {hidden}"),
            heads
        );
        let image = scope.size("image_size", 224, (1, 1 << 14))?;
        Ok(SiglipConfig {
            hidden,
            layers: scope.size("num_hidden_layers", 12, (1, 1024))?,
            heads,
            intermediate: scope.size("intermediate_size", 3072, (1, 1 << 22))?,
            image,
            patch: scope.size("patch_size", 16, (1, image))?,
            channels: scope.size("num_channels", 3, (3, 3))?,
            norm_eps: scope.number("layer_norm_eps", 1e-6, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")?,
            activation: Activation::read(scope, "hidden_act", Activation::GeluTanh)?,
        })
    }

    /// Number of patches along a side of a tile. The strided convolution ignores pixels after the last whole patch.
    pub fn side(&self) -> usize {
        self.image / self.patch
    }
}
