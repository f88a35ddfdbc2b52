//! The `vision_config` of SigLIP and of CLIP.
//!
//! Source: transformers 5.17, `models/{siglip,clip}/configuration_*.py`.

use super::activation::Activation;
use super::json::Scope;
use crate::error::{Result, ensure};

/// Sizes and constants of a SigLIP or CLIP vision tower. Spec: T5.1, T5.7
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
    /// Whether the tower is CLIP's: a class token before the patches, a norm before the layers, and no bias in the patch
    /// embedding. Spec: E5.16
    pub class: bool,
}

impl SiglipConfig {
    /// CLIP's large tower of 336 pixels, which transformers uses for a configuration without a `vision_config`.
    pub(crate) const CLIP_LARGE: SiglipConfig = SiglipConfig {
        hidden: 1024,
        layers: 24,
        heads: 16,
        intermediate: 4096,
        image: 336,
        patch: 14,
        channels: 3,
        norm_eps: 1e-5,
        activation: Activation::QuickGelu,
        class: true,
    };
}

impl SiglipConfig {
    /// Reads SigLIP's `vision_config`; absent fields take SigLIP's defaults.
    ///
    /// # Errors
    /// A field has the wrong type or size.
    pub(crate) fn read(scope: &Scope<'_>) -> Result<SiglipConfig> {
        Self::of(scope, "siglip_vision_model", (16, 1e-6, Activation::GeluTanh, false))
    }

    /// Reads CLIP's `vision_config`; absent fields take CLIP's defaults.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn clip(scope: &Scope<'_>) -> Result<SiglipConfig> {
        Self::of(scope, "clip_vision_model", (32, 1e-5, Activation::QuickGelu, true))
    }

    fn of(
        scope: &Scope<'_>,
        model_type: &'static str,
        (patch, eps, activation, class): (usize, f64, Activation, bool),
    ) -> Result<SiglipConfig> {
        scope.model_type(model_type, &[model_type])?;
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
            patch: scope.size("patch_size", patch, (1, image))?,
            channels: scope.size("num_channels", 3, (3, 3))?,
            norm_eps: scope.number("layer_norm_eps", eps, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")?,
            activation: Activation::read(scope, "hidden_act", activation)?,
            class,
        })
    }

    /// Number of tokens of a tile: its patches, and the class token if there is one.
    pub fn tokens(&self) -> usize {
        self.side() * self.side() + usize::from(self.class)
    }

    /// Number of patches along a side of a tile. The strided convolution ignores pixels after the last whole patch.
    pub fn side(&self) -> usize {
        self.image / self.patch
    }
}
