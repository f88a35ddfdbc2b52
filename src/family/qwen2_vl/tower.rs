//! Qwen2-VL's vision tower: patches of images of any size, two-dimensional rotary positions, attention within each
//! frame. Source: transformers `modeling_qwen2_vl.py`.

use super::config::Qwen2VlVisionConfig;
use crate::config::NormKind;
use crate::error::Result;
use crate::kernel::Frequencies;
use crate::layer::{Linear, Mlp, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::stage::{Site, Stage};
use crate::vision::{VitLayer, angles, places};
use crate::weights::Names;
use ndarray::{Array2, ArrayView2};

/// ε of all layer norms.
pub(super) const EPS: f64 = 1e-6;

/// A Qwen2-VL vision tower. Spec: E5.7–E5.9
#[derive(Debug, Clone)]
pub struct Qwen2VlTower {
    /// The tower's configuration.
    pub config: Qwen2VlVisionConfig,
    patch_embedding: Linear,
    layers: Vec<VitLayer>,
    /// The d_v / heads / 4 frequencies, which serve a patch's row and then its column.
    frequencies: Frequencies,
}

impl Qwen2VlTower {
    /// Loads the tower's weights from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, config: &Qwen2VlVisionConfig) -> Result<Self> {
        let (c, d) = (config, config.hidden);
        let layers = (0..c.layers).map(|i| {
            let at = |part: &str| format!("vision.blocks.{i}.{part}");
            Ok(VitLayer {
                heads: c.heads,
                norm1: Norm::load(names, &at("norm1"), NormKind::Layer, d, EPS)?,
                qkv: Qkv::stacked(Linear::load(names, &at("attn.qkv"), 3 * d, d, true)?, [d; 3]),
                qk_norm: None,
                out: Linear::load(names, &at("attn.proj"), d, d, true)?.ends_branch(),
                scale1: None,
                norm2: Norm::load(names, &at("norm2"), NormKind::Layer, d, EPS)?,
                mlp: Mlp {
                    fc1: Linear::load(names, &at("mlp.fc1"), c.intermediate, d, true)?,
                    activation: c.activation,
                    fc2: Linear::load(names, &at("mlp.fc2"), d, c.intermediate, true)?.ends_branch(),
                }
                .into(),
                scale2: None,
            })
        });
        Ok(Qwen2VlTower {
            config: c.clone(),
            patch_embedding: Linear {
                weight: names.kernel_3d("vision.patch_embed.proj.weight", d, [3, c.temporal, c.patch])?,
                bias: None,
                stored: Stored::Once,
            },
            layers: layers.collect::<Result<_>>()?,
            frequencies: Frequencies::new(c.rope_theta, d / c.heads / 2),
        })
    }

    /// The residual stream after the last layer.
    ///
    /// patches: [n, 3 · temporal · p²], the patches of all images concatenated; grids: time, height and width of each
    /// image in patches; all grids together have n patches → [n, d_v]. Spec: E5.7–E5.9, R5.7
    pub fn features<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        patches: ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
    ) -> Array2<T> {
        let patches = pass.store(patches.mapv(T::of_f32)); // R3.14
        let mut x = self.patch_embedding.forward(pass, patches.view());
        let at: Vec<[i64; 2]> = grids.iter().flat_map(|&grid| places(grid, self.config.merge)).collect();
        let angles = angles(pass, &self.frequencies, &at);
        let frames: Vec<usize> = grids.iter().flat_map(|&[t, h, w]| std::iter::repeat_n(h * w, t)).collect();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(pass, x, &frames, Some(&angles)); // E5.8, E5.9, C5.9a
            x = pass.show(Stage::layer(Site::VisionOut, i), x);
        }
        x
    }
}
