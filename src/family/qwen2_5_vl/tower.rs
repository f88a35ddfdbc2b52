//! Qwen2.5-VL's vision tower and merger: RMS norms, gated MLPs, attention within windows and in some layers within whole
//! frames. Source: transformers `modeling_qwen2_5_vl.py`.

use super::config::Qwen25VlVisionConfig;
use crate::config::{Activation, NormKind};
use crate::error::Result;
use crate::family::encoder::{Encode, image_by_image};
use crate::input::Prepared;
use crate::kernel::Frequencies;
use crate::layer::{AnyMlp, GatedMlp, Linear, Mlp, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::stage::{Site, Stage};
use crate::vision::{Projector, VitLayer, angles, places, windows};
use crate::weights::Names;
use ndarray::{Array2, ArrayView2, Axis};

/// ε of all norms.
const EPS: f64 = 1e-6;

/// Tower and merger. Spec: E5.17, E5.18
#[derive(Debug, Clone)]
pub struct Qwen25VlTower {
    /// The tower's configuration.
    pub config: Qwen25VlVisionConfig,
    patch_embedding: Linear,
    layers: Vec<VitLayer>,
    merger: Projector,
    /// The d_v / heads / 4 frequencies, which serve a patch's row and then its column.
    frequencies: Frequencies,
}

impl Qwen25VlTower {
    /// Loads tower and merger from a checkpoint. d: width of the language model.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, config: &Qwen25VlVisionConfig, d: usize) -> Result<Self> {
        let (c, d_v, square) = (config, config.hidden, config.hidden * config.merge.pow(2));
        let linear =
            |name: &str, outputs, inputs| Linear::load(names, &format!("vision.{name}"), outputs, inputs, true);
        let norm = |name: &str| Norm::load(names, &format!("vision.{name}"), NormKind::Rms, d_v, EPS);
        let layers = (0..c.layers).map(|i| {
            let at = |part: &str| format!("blocks.{i}.{part}");
            Ok(VitLayer {
                heads: c.heads,
                norm1: norm(&at("norm1"))?,
                qkv: Qkv::stacked(linear(&at("attn.qkv"), 3 * d_v, d_v)?, [d_v; 3]),
                qk_norm: None,
                out: linear(&at("attn.proj"), d_v, d_v)?.ends_branch(),
                scale1: None,
                norm2: norm(&at("norm2"))?,
                mlp: AnyMlp::Gated(GatedMlp {
                    gate: linear(&at("mlp.gate_proj"), c.intermediate, d_v)?,
                    up: linear(&at("mlp.up_proj"), c.intermediate, d_v)?,
                    down: linear(&at("mlp.down_proj"), d_v, c.intermediate)?.ends_branch(),
                    activation: c.activation,
                }),
                scale2: None,
            })
        });
        Ok(Qwen25VlTower {
            config: c.clone(),
            patch_embedding: Linear {
                weight: names.kernel_3d("vision.patch_embed.proj.weight", d_v, [3, c.temporal, c.patch])?,
                bias: None,
                stored: Stored::Once,
            },
            layers: layers.collect::<Result<_>>()?,
            merger: Projector {
                norm: norm("merger.ln_q")?,
                mlp: Mlp {
                    fc1: linear("merger.mlp.0", square, square)?,
                    activation: Activation::GeluErf,
                    fc2: linear("merger.mlp.2", d, square)?,
                },
            },
            frequencies: Frequencies::new(c.rope_theta, d_v / c.heads / 2),
        })
    }

    /// The visual rows of images: [n / m², d], in the order of the squares.
    ///
    /// patches: [n, 3 · temporal · p²], the patches of all images concatenated; grids: time, height and width of each
    /// image in patches. Spec: E5.17, E5.18, R5.17
    pub fn rows<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        patches: ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
    ) -> Array2<T> {
        let (m, side) = (self.config.merge, self.config.window);
        let unit = m * m;
        let (mut squares, mut in_windows, mut in_frames) = (Vec::new(), Vec::new(), Vec::new());
        for &[t, h, w] in grids {
            let (order, lengths) = windows([t, h / m, w / m], side);
            let first = squares.len();
            squares.extend(order.into_iter().map(|square| first + square));
            in_windows.extend(lengths.into_iter().map(|squares| squares * unit));
            in_frames.extend(std::iter::repeat_n(h * w, t));
        }
        let order: Vec<usize> = squares.iter().flat_map(|&s| s * unit..(s + 1) * unit).collect();
        let patches = pass.store(patches.select(Axis(0), &order).mapv(T::of_f32)); // R3.14
        let mut x = self.patch_embedding.forward(pass, patches.view());
        let at: Vec<[i64; 2]> = grids.iter().flat_map(|&grid| places(grid, m)).collect();
        let at: Vec<[i64; 2]> = order.iter().map(|&patch| at[patch]).collect();
        let angles = angles(pass, &self.frequencies, &at);
        for (i, layer) in self.layers.iter().enumerate() {
            let lengths = if self.config.full.contains(&i) { &in_frames } else { &in_windows };
            x = layer.forward(pass, x, lengths, Some(&angles)); // E5.17
            x = pass.show(Stage::layer(Site::VisionOut, i), x);
        }
        let features = pass.show(Stage::once(Site::Features), x);
        let merged = self.merger.forward(pass, features.view());
        let mut rows = merged.clone();
        for (row, &square) in merged.outer_iter().zip(&squares) {
            rows.row_mut(square).assign(&row); // E5.18
        }
        rows
    }
}

impl Encode for Qwen25VlTower {
    /// Spec: E5.17, E5.18, C5.17a
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared) -> Array2<T> {
        image_by_image(pass, prompt, |pass, patches, grids| self.rows(pass, patches, grids))
    }
}
