//! SigLIP's `vision_config`.

use super::Activation;

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
    /// Patches along a side of a tile.
    pub fn side(&self) -> usize {
        self.image / self.patch
    }
}
