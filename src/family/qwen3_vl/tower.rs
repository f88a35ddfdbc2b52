//! Qwen3-VL's vision tower and mergers: patches of images of any size, learned positions that are interpolated, rotary
//! positions, attention within each frame, and features of several layers. Source: transformers `modeling_qwen3_vl.py`.

use super::config::{Qwen3VlConfig, Qwen3VlVisionConfig};
use crate::config::{Activation, NormKind};
use crate::error::Result;
use crate::family::encoder::{Encode, image_by_image};
use crate::input::Prepared;
use crate::kernel::Frequencies;
use crate::layer::{Linear, Mlp, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::stage::{Site, Stage};
use crate::vision::{Projector, VitLayer, angles, interpolated, places};
use crate::weights::{Matrix, Names};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

/// ε of all layer norms.
const EPS: f64 = 1e-6;

/// Tower and mergers. Spec: E5.19, E5.20
#[derive(Debug, Clone)]
pub struct Qwen3VlTower {
    /// The tower's configuration.
    pub config: Qwen3VlVisionConfig,
    patch_embedding: Linear,
    /// [positions, d_v], of which the first side · side are a grid, row by row.
    position_embedding: Matrix,
    layers: Vec<VitLayer>,
    merger: Projector,
    /// The tower layers whose features DeepStack uses, each with its merger.
    deepstack: Vec<(usize, Projector)>,
    /// The d_v / heads / 4 frequencies, which serve a patch's row and then its column.
    frequencies: Frequencies,
}

impl Qwen3VlTower {
    /// Loads tower and mergers from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, config: &Qwen3VlConfig) -> Result<Self> {
        let (c, d, d_v) = (&config.vision, config.text.hidden, config.vision.hidden);
        let square = d_v * c.merge.pow(2);
        let linear =
            |name: &str, outputs, inputs| Linear::load(names, &format!("vision.{name}"), outputs, inputs, true);
        let norm = |name: &str, width| Norm::load(names, &format!("vision.{name}"), NormKind::Layer, width, EPS);
        let layers = (0..c.layers).map(|i| {
            let at = |part: &str| format!("blocks.{i}.{part}");
            Ok(VitLayer {
                heads: c.heads,
                norm1: norm(&at("norm1"), d_v)?,
                qkv: Qkv::stacked(linear(&at("attn.qkv"), 3 * d_v, d_v)?, [d_v; 3]),
                qk_norm: None,
                out: linear(&at("attn.proj"), d_v, d_v)?.ends_branch(),
                scale1: None,
                norm2: norm(&at("norm2"), d_v)?,
                mlp: Mlp {
                    fc1: linear(&at("mlp.linear_fc1"), c.intermediate, d_v)?,
                    activation: c.activation,
                    fc2: linear(&at("mlp.linear_fc2"), d_v, c.intermediate)?.ends_branch(),
                }
                .into(),
                scale2: None,
            })
        });
        // The merger of the rows norms each patch, the mergers of DeepStack norm each square of patches.
        let merger = |at: &str, normed| {
            let mlp = Mlp {
                fc1: linear(&format!("{at}.linear_fc1"), square, square)?,
                activation: Activation::GeluErf,
                fc2: linear(&format!("{at}.linear_fc2"), d, square)?,
            };
            Ok(Projector { norm: norm(&format!("{at}.norm"), normed)?, mlp })
        };
        let deepstack = config.deepstack.iter().map(|&layer| {
            let place = c.tapped.iter().position(|&tapped| tapped == layer).unwrap_or_default();
            Ok((layer, merger(&format!("deepstack_merger_list.{place}"), square)?))
        });
        Ok(Qwen3VlTower {
            config: c.clone(),
            patch_embedding: Linear {
                weight: names.kernel_3d("vision.patch_embed.proj.weight", d_v, [3, c.temporal, c.patch])?,
                bias: Some(names.vector("vision.patch_embed.proj.bias", d_v)?),
                stored: Stored::AsConvolution,
            },
            position_embedding: names.matrix("vision.pos_embed.weight", c.positions, d_v)?,
            layers: layers.collect::<Result<_>>()?,
            merger: merger("merger", d_v)?,
            deepstack: deepstack.collect::<Result<_>>()?,
            frequencies: Frequencies::new(c.rope_theta, d_v / c.heads / 2),
        })
    }

    /// The visual rows of images, and beside them the rows of DeepStack: [n / m², d · (1 + |deepstack|)].
    ///
    /// patches: [n, 3 · temporal · p²], the patches of all images concatenated; grids: time, height and width of each
    /// image in patches. Spec: E5.19, E5.20, R5.19
    pub fn rows<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        patches: ArrayView2<'_, f32>,
        grids: &[[usize; 3]],
    ) -> Array2<T> {
        let m = self.config.merge;
        let patches = pass.store(patches.mapv(T::of_f32)); // R3.14
        let mut x = self.patch_embedding.forward(pass, patches.view());
        let learned = pass.store(interpolated(&self.position_embedding, self.config.positions.isqrt(), grids, m));
        x = pass.store(x + learned); // E5.19
        let at: Vec<[i64; 2]> = grids.iter().flat_map(|&grid| places(grid, m)).collect();
        let angles = angles(pass, &self.frequencies, &at);
        let frames: Vec<usize> = grids.iter().flat_map(|&[t, h, w]| std::iter::repeat_n(h * w, t)).collect();
        let mut deepstack = Vec::with_capacity(self.deepstack.len());
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(pass, x, &frames, Some(&angles)); // E5.8, E5.9
            x = pass.show(Stage::layer(Site::VisionOut, i), x);
            if let Some((_, merger)) = self.deepstack.iter().find(|(tapped, _)| *tapped == i) {
                deepstack.push(merger.forward(pass, x.view())); // E5.20
            }
        }
        let features = pass.show(Stage::once(Site::Features), x);
        let rows = self.merger.forward(pass, features.view()); // E5.10
        let all: Vec<_> = std::iter::once(&rows).chain(&deepstack).map(|rows| rows.view()).collect();
        concatenate(Axis(1), &all).unwrap_or_else(|_| unreachable!("E5.20: as many rows from each layer"))
    }
}

impl Encode for Qwen3VlTower {
    /// Spec: E5.19, E5.20, C5.19a
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared) -> Array2<T> {
        image_by_image(pass, prompt, |pass, patches, grids| self.rows(pass, patches, grids))
    }
}
