//! InternViT: a class token followed by patch embeddings, learned positions, and pre-norm layers that scale the outputs
//! of attention and MLP before the residual additions.
//! Source: OpenGVLab's `modeling_intern_vit.py`; transformers `InternVLVisionModel`.

use super::layer::VitLayer;
use super::rated::{stacked, unrated};
use super::tiles::{embedded, in_groups, shown};
use crate::config::{InternVitConfig, NormKind};
use crate::error::Result;
use crate::layer::{Linear, Mlp, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::policy::Rate;
use crate::weights::{Matrix, Names};
use ndarray::{Array2, Array3, ArrayView4};

/// An InternViT. Spec: E5.11–E5.13
#[derive(Debug, Clone)]
pub struct InternVit {
    /// The tower's configuration.
    pub config: InternVitConfig,
    patch_embedding: Linear,
    /// [1, d_v].
    class: Matrix,
    /// [1 + patches of a tile, d_v].
    positions: Matrix,
    layers: Vec<VitLayer>,
    last: Option<Norm>,
}

impl InternVit {
    /// Loads the weights of the tower's first `used` layers from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(ck: &Names<'_>, config: &InternVitConfig, used: usize) -> Result<Self> {
        let (d, c) = (config.hidden, config);
        let linear = |name: String, outputs, inputs, bias| Linear::load(ck, &name, outputs, inputs, bias);
        let layers = (0..used).map(|i| {
            let at = |part: &str| format!("vision.layers.{i}.{part}");
            let one = |part: &str| linear(at(part), d, d, c.qkv_bias);
            let norm = |part: &str, kind, eps| Norm::load(ck, &at(part), kind, d, eps);
            Ok(VitLayer {
                heads: c.heads,
                norm1: norm("norm1", c.norm, c.norm_eps)?,
                qkv: match c.fused {
                    true => Qkv::stacked(linear(at("qkv"), 3 * d, d, c.qkv_bias)?, [d; 3]),
                    false => Qkv::apart([one("query")?, one("key")?, one("value")?]),
                },
                qk_norm: match c.qk_norm {
                    Some(eps) => Some([norm("q_norm", NormKind::Rms, eps)?, norm("k_norm", NormKind::Rms, eps)?]),
                    None => None,
                },
                out: linear(at("out"), d, d, true)?,
                scale1: Some(ck.vector(&at("scale1"), d)?),
                norm2: norm("norm2", c.norm, c.norm_eps)?,
                mlp: Mlp {
                    fc1: linear(at("mlp.fc1"), c.intermediate, d, true)?,
                    activation: c.activation,
                    fc2: linear(at("mlp.fc2"), d, c.intermediate, true)?,
                }
                .into(),
                scale2: Some(ck.vector(&at("scale2"), d)?),
            })
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        Ok(InternVit {
            config: c.clone(),
            patch_embedding: Linear {
                weight: ck.kernel("vision.patch.weight", d, 3, c.patch)?,
                bias: Some(ck.vector("vision.patch.bias", d)?),
                stored: Stored::AsConvolution,
            },
            class: ck.batch_of_one("vision.class", 1, d)?,
            positions: ck.batch_of_one("vision.positions", 1 + c.side() * c.side(), d)?,
            layers,
            last: match c.last_norm {
                true => Some(Norm::load(ck, "vision.norm", NormKind::Layer, d, c.norm_eps)?),
                false => None,
            },
        })
    }

    /// The state after the last loaded layer. The first token of each tile is the class token.
    ///
    /// pixels: [tiles, 3, S, S] → [tiles, 1 + patches, d_v]. Spec: E5.11–E5.13, C5.11a
    pub fn features<T: Real>(&self, pass: &mut Pass<'_, T>, pixels: ArrayView4<'_, f32>) -> Array3<T> {
        self.rated_features(pass, pixels, None).0
    }

    /// As [`features`](Self::features), and the ratings of each token in the last layer: [tiles · (1 + patches), columns].
    /// Spec: E9.30, E9.31, E9.35
    pub fn rated_features<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        pixels: ArrayView4<'_, f32>,
        rate: Option<Rate>,
    ) -> (Array3<T>, Array2<T>) {
        let mut groups = Vec::new();
        let features = in_groups(pass, pixels, (self.tokens(), self.config.hidden), |pass, pixels| {
            let (x, of_group) = self.tiles(pass, pixels, rate);
            groups.push(of_group);
            x
        });
        (features, stacked(&groups))
    }

    /// Tokens of a tile, including the class token.
    fn tokens(&self) -> usize {
        1 + self.config.side() * self.config.side()
    }

    fn tiles<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        pixels: ArrayView4<'_, f32>,
        rate: Option<Rate>,
    ) -> (Array2<T>, Array2<T>) {
        let (mut x, mut ratings) = (self.embedded(pass, pixels), unrated());
        let lengths = vec![self.tokens(); pixels.dim().0];
        for (i, layer) in self.layers.iter().enumerate() {
            let rate = rate.filter(|_| i + 1 == self.layers.len());
            (x, ratings) = layer.forward(pass, x, &lengths, None, rate);
            x = shown(pass, i, x, self.tokens());
        }
        match &self.last {
            Some(norm) => (norm.forward(pass, x.view()), ratings),
            None => (x, ratings),
        }
    }

    /// The embedded tokens: pixels: [tiles, 3, S, S] → [tiles · tokens, d_v]. Spec: E5.11, R5.11
    fn embedded<T: Real>(&self, pass: &mut Pass<'_, T>, pixels: ArrayView4<'_, f32>) -> Array2<T> {
        let (tiles, tokens, d) = (pixels.dim().0, self.tokens(), self.config.hidden);
        let embedded = embedded(pass, &self.patch_embedding, pixels, self.config.patch);
        let (mut class, mut position) = (vec![T::ZERO; d], vec![T::ZERO; d]);
        self.class.view().row_into(0, &mut class);
        let mut x = Array2::from_elem((tiles * tokens, d), T::ZERO);
        for token in 0..tokens {
            self.positions.view().row_into(token, &mut position);
            for tile in 0..tiles {
                let mut row = x.row_mut(tile * tokens + token);
                match token {
                    0 => row.iter_mut().zip(&class).for_each(|(x, &c)| *x = c),
                    _ => row.assign(&embedded.row(tile * (tokens - 1) + token - 1)),
                }
                row.iter_mut().zip(&position).for_each(|(x, &p)| *x += p);
            }
        }
        pass.store(x)
    }
}
