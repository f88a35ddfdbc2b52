//! Qwen2-VL's vision tower: patches of images of any size, two-dimensional rotary positions, attention within each frame;
//! and the merger, which makes one row of each square of patches. Source: transformers `modeling_qwen2_vl.py`.

use super::config::Qwen2VlVisionConfig;
use crate::config::{Activation, NormKind};
use crate::error::Result;
use crate::kernel::{Angles, inverse_frequencies};
use crate::layer::{Linear, Mlp, Norm};
use crate::num::{Grid, Real};
use crate::pass::{Branch, Pass, Stored};
use crate::stage::{Site, Stage};
use crate::vision::attention_within;
use crate::weights::Names;
use ndarray::{Array2, ArrayView2, s};

/// ε of all layer norms.
const EPS: f64 = 1e-6;

/// A Qwen2-VL vision tower. Spec: E5.7–E5.9
#[derive(Debug, Clone)]
pub struct Qwen2VlTower {
    /// Its configuration.
    pub config: Qwen2VlVisionConfig,
    patch_embedding: Linear,
    layers: Vec<Layer>,
    /// Of the row, then the same of the column: [d_v / heads / 2].
    frequencies: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Layer {
    norm1: Norm,
    /// Queries, keys and values below one another: [3 · d_v, d_v].
    qkv: Linear,
    out: Linear,
    norm2: Norm,
    mlp: Mlp,
}

impl Qwen2VlTower {
    /// Takes the tower's weights from a checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration says.
    pub fn load(names: &Names<'_>, config: &Qwen2VlVisionConfig) -> Result<Self> {
        let (c, d) = (config, config.hidden);
        let layers = (0..c.layers).map(|i| {
            let at = |part: &str| format!("vision.blocks.{i}.{part}");
            Ok(Layer {
                norm1: Norm::load(names, &at("norm1"), NormKind::Layer, d, EPS)?,
                qkv: Linear::load(names, &at("attn.qkv"), 3 * d, d, true)?,
                out: Linear::load(names, &at("attn.proj"), d, d, true)?,
                norm2: Norm::load(names, &at("norm2"), NormKind::Layer, d, EPS)?,
                mlp: Mlp {
                    fc1: Linear::load(names, &at("mlp.fc1"), c.intermediate, d, true)?,
                    activation: c.activation,
                    fc2: Linear::load(names, &at("mlp.fc2"), d, c.intermediate, true)?,
                },
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
            frequencies: inverse_frequencies(c.rope_theta, d / c.heads / 2).repeat(2),
        })
    }

    /// The residual stream after the last layer.
    ///
    /// patches: [n, 3 · temporal · p²], all images one after the other; grids: time, height, width in patches of each, together
    /// n → [n, d_v]. Spec: E5.7–E5.9, R5.7
    pub fn features<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        patches: ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
    ) -> Array2<T> {
        let patches = pass.store(patches.mapv(T::of_f32)); // R3.14
        let mut x = self.patch_embedding.forward(pass, patches.view());
        let at: Vec<[i64; 2]> = grids.iter().flat_map(|&grid| places(grid, self.config.merge)).collect();
        let half = self.frequencies.len() / 2;
        // Rotated in full width, cosine and sine too, and stored once (R5.8).
        let angles = Angles::new(at.len(), &self.frequencies, |row, i| at[row][i / half], Grid::Native);
        let frames: Vec<usize> = grids.iter().flat_map(|&[t, h, w]| std::iter::repeat_n(h * w, t)).collect();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(pass, x, self.config.heads, &angles, &frames);
            x = pass.show(Stage::layer(Site::VisionOut, i), x);
        }
        x
    }
}

/// Row and column of every patch, in the order in which patches lie: squares of m × m row by row, each row by row.
/// Spec: D4.5
fn places([t, h, w]: [usize; 3], m: usize) -> impl Iterator<Item = [i64; 2]> {
    let within = move |i: usize| {
        let (square, part) = (i / (m * m), i % (m * m));
        let (y, x) = (square / (w / m) * m + part / m, square % (w / m) * m + part % m);
        [y as i64, x as i64]
    };
    (0..t * h * w).map(move |i| within(i % (h * w)))
}

impl Layer {
    /// x: [n, d_v] → the same. Spec: E5.8, E5.9, R5.8, C5.8a
    fn forward<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        x: Array2<T>,
        heads: usize,
        angles: &Angles<T>,
        frames: &[usize],
    ) -> Array2<T> {
        let d = x.ncols();
        let h = self.norm1.forward(pass, x.view());
        let qkv = self.qkv.forward(pass, h.view());
        let [q, k, v] = [0, 1, 2].map(|i| qkv.slice(s![.., i * d..(i + 1) * d]).to_owned());
        let [q, k] = [q, k].map(|x| pass.rotate_wide(x, angles, d / heads)); // E5.8
        let mix = attention_within(pass, &q, &k, &v, heads, frames); // E5.9, C5.9a
        let x = pass.add(x, pass.branch(Branch::Attention, self.out.forward(pass, mix.view())));
        let h = self.norm2.forward(pass, x.view());
        pass.add(x, self.mlp.forward(pass, h.view()))
    }
}

/// Makes one row of the language model's width of every m² patches. Spec: E5.10
#[derive(Debug, Clone)]
pub struct Merger {
    norm: Norm,
    mlp: Mlp,
}

impl Merger {
    /// Takes the merger's weights from a checkpoint; width: of the language model.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration says.
    pub fn load(names: &Names<'_>, config: &Qwen2VlVisionConfig, width: usize) -> Result<Self> {
        let square = config.hidden * config.merge * config.merge;
        Ok(Merger {
            norm: Norm::load(names, "vision.merger.ln_q", NormKind::Layer, config.hidden, EPS)?,
            mlp: Mlp {
                fc1: Linear::load(names, "vision.merger.mlp.0", square, square, true)?,
                activation: Activation::GeluErf,
                fc2: Linear::load(names, "vision.merger.mlp.2", width, square, true)?,
            },
        })
    }

    /// features: [n, d_v], squares of patches together → [n / m², d]. Spec: E5.10, R5.10
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, features: ArrayView2<'_, T>) -> Array2<T> {
        let h = self.norm.forward(pass, features);
        let (n, d) = h.dim();
        let square = self.mlp.fc1.weight.cols();
        let Ok(h) = h.into_shape_with_order((n * d / square, square)) else { unreachable!("E5.10: whole squares") };
        self.mlp.forward(pass, h.view())
    }
}
