//! A tower over patches of images of any size: two-dimensional rotary positions, attention within frames or windows.
//! Source: transformers `modeling_qwen*_vl.py`.

use super::layer::VitLayer;
use super::places::angles;
use super::rated::unrated;
use crate::config::{NormKind, PatchVitConfig};
use crate::error::Result;
use crate::kernel::Frequencies;
use crate::layer::{AnyMlp, GatedMlp, Linear, Mlp, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::policy::Rate;
use crate::stage::{Site, Stage};
use crate::weights::Names;
use ndarray::{Array2, ArrayView2};

/// ε of all norms of such a tower and of its mergers.
pub const PATCH_VIT_EPS: f64 = 1e-6;

/// What the towers of families differ in.
#[derive(Debug, Clone, Copy)]
pub struct PatchVitParts {
    /// The kind of the norms.
    pub norm: NormKind,
    /// Whether the embedding of patches has a bias.
    pub bias: bool,
    /// The names of the MLP's layers: two, or three of a gated MLP (gate, up, down).
    pub mlp: &'static [&'static str],
}

/// The embedding of patches and the layers. Spec: E5.7–E5.9, E5.17, E5.19
#[derive(Debug, Clone)]
pub struct PatchVit {
    patch_embedding: Linear,
    layers: Vec<VitLayer>,
    /// The d_v / heads / 4 frequencies, which serve a patch's row and then its column.
    frequencies: Frequencies,
}

impl PatchVit {
    /// Loads the tower's weights from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, c: &PatchVitConfig, parts: PatchVitParts) -> Result<Self> {
        let d = c.hidden;
        let layers = (0..c.layers).map(|i| {
            let at = |part: &str| format!("vision.blocks.{i}.{part}");
            let linear = |part: &str, outputs, inputs| Linear::load(names, &at(part), outputs, inputs, true);
            let norm = |part: &str| Norm::load(names, &at(part), parts.norm, d, PATCH_VIT_EPS);
            let wide = |part: &str| linear(&format!("mlp.{part}"), c.intermediate, d);
            let narrow = |part: &str| Ok(linear(&format!("mlp.{part}"), d, c.intermediate)?.ends_branch());
            Ok(VitLayer {
                heads: c.heads,
                norm1: norm("norm1")?,
                qkv: Qkv::stacked(linear("attn.qkv", 3 * d, d)?, [d; 3]),
                qk_norm: None,
                out: linear("attn.proj", d, d)?.ends_branch(),
                scale1: None,
                norm2: norm("norm2")?,
                mlp: match *parts.mlp {
                    [fc1, fc2] => Mlp { fc1: wide(fc1)?, activation: c.activation, fc2: narrow(fc2)? }.into(),
                    [gate, up, down] => AnyMlp::Gated(GatedMlp {
                        gate: wide(gate)?,
                        up: wide(up)?,
                        down: narrow(down)?,
                        activation: c.activation,
                    }),
                    _ => unreachable!("E5.9: an MLP has two or three layers"),
                },
                scale2: None,
            })
        });
        let embedding = "vision.patch_embed.proj";
        Ok(PatchVit {
            patch_embedding: Linear {
                weight: names.kernel_3d(&format!("{embedding}.weight"), d, [3, c.temporal, c.patch])?,
                bias: if parts.bias { Some(names.vector(&format!("{embedding}.bias"), d)?) } else { None },
                stored: if parts.bias { Stored::AsConvolution } else { Stored::Once },
            },
            layers: layers.collect::<Result<_>>()?,
            frequencies: Frequencies::new(c.rope_theta, d / c.heads / 2),
        })
    }

    /// The embedded patches: [n, 3 · temporal · p²] → [n, d_v]. Spec: E5.7, R5.7
    pub fn embedded<T: Real>(&self, pass: &Pass<'_, T>, patches: ArrayView2<'_, f32>) -> Array2<T> {
        let patches = pass.store(patches.mapv(T::of_f32)); // R3.14
        self.patch_embedding.forward(pass, patches.view())
    }

    /// The stream after the last layer, [n, d_v], and the ratings of each patch in that layer, [n, columns].
    ///
    /// x: the embedded patches; at: row and column of each patch; lengths: the lengths of the segments within which the
    /// rows of a layer attend; after: is shown what each layer gives. Spec: E5.8, E5.9
    pub fn features<'a, T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        mut x: Array2<T>,
        at: &[[i64; 2]],
        lengths: impl Fn(usize) -> &'a [usize],
        mut after: impl FnMut(&Pass<'_, T>, usize, &Array2<T>),
        rate: Option<Rate>,
    ) -> (Array2<T>, Array2<T>) {
        let (angles, mut ratings) = (angles(pass, &self.frequencies, at), unrated());
        for (i, layer) in self.layers.iter().enumerate() {
            let rate = rate.filter(|_| i + 1 == self.layers.len());
            (x, ratings) = layer.forward(pass, x, lengths(i), Some(&angles), rate); // E5.8, E5.9, C5.9a
            x = pass.show(Stage::layer(Site::VisionOut, i), x);
            after(pass, i, &x);
        }
        (pass.show(Stage::once(Site::Features), x), ratings)
    }
}

/// The number of patches of each frame of images. grids: time, height and width of each image in patches.
pub fn frames(grids: &[[usize; 3]]) -> Vec<usize> {
    grids.iter().flat_map(|&[t, h, w]| std::iter::repeat_n(h * w, t)).collect()
}
