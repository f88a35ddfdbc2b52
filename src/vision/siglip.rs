//! SigLIP and CLIP: patch embedding, learned positions, pre-norm transformer layers without a causal mask. CLIP has a
//! class token and one more norm before the layers.
//! Source: transformers `modeling_siglip.py`, `modeling_clip.py`. This code does not apply the layer norm after the last layer, because
//! LLaVA reads the features before that norm (C5.1b).

use super::layer::VitLayer;
use super::rated::{stacked, unrated};
use super::tiles::{embedded, in_groups, shown};
use crate::config::{NormKind, SiglipConfig};
use crate::error::Result;
use crate::layer::{Linear, Mlp, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::policy::Rate;
use crate::weights::{Matrix, Names};
use ndarray::{Array2, Array3, ArrayView2, ArrayView4, Axis, concatenate};

/// A SigLIP or CLIP vision tower. Spec: E5.1–E5.4, E5.16, C5.16a, R5.16
#[derive(Debug, Clone)]
pub struct Siglip {
    /// The tower's configuration.
    pub config: SiglipConfig,
    patch_embedding: Linear,
    /// CLIP's class token, \[d_v\], and its norm before the layers.
    class: Option<(Vec<f32>, Norm)>,
    /// [tokens of a tile, d_v].
    position_embedding: Matrix,
    layers: Vec<VitLayer>,
}

impl Siglip {
    /// Loads the weights of the tower's first `used` layers from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(ck: &Names<'_>, config: &SiglipConfig, used: usize) -> Result<Self> {
        let (d, mlp, c) = (config.hidden, config.intermediate, config);
        let linear = |name: String, outputs, inputs| Linear::load(ck, &name, outputs, inputs, true);
        let norm = |name: String| Norm::load(ck, &name, NormKind::Layer, d, c.norm_eps);
        let layers = (0..used).map(|i| {
            let at = |part: &str| format!("vision.encoder.layers.{i}.{part}");
            let one = |part: &str| linear(at(&format!("self_attn.{part}")), d, d);
            Ok(VitLayer {
                heads: c.heads,
                norm1: norm(at("layer_norm1"))?,
                qkv: Qkv::apart([one("q_proj")?, one("k_proj")?, one("v_proj")?]),
                qk_norm: None,
                out: one("out_proj")?.ends_branch(),
                scale1: None,
                norm2: norm(at("layer_norm2"))?,
                mlp: Mlp {
                    fc1: linear(at("mlp.fc1"), mlp, d)?,
                    activation: c.activation,
                    fc2: linear(at("mlp.fc2"), d, mlp)?.ends_branch(),
                }
                .into(),
                scale2: None,
            })
        });
        Ok(Siglip {
            config: c.clone(),
            patch_embedding: Linear {
                weight: ck.kernel("vision.embeddings.patch_embedding.weight", d, c.channels, c.patch)?,
                bias: match c.class {
                    true => None,
                    false => Some(ck.vector("vision.embeddings.patch_embedding.bias", d)?),
                },
                stored: Stored::AsConvolution,
            },
            class: match c.class {
                true => Some((ck.vector("vision.embeddings.class_embedding", d)?, norm("vision.pre_layrnorm".into())?)),
                false => None,
            },
            position_embedding: ck.matrix("vision.embeddings.position_embedding.weight", c.tokens(), d)?,
            layers: layers.collect::<Result<_>>()?,
        })
    }

    /// The hidden states that `wanted` lists (0 = embeddings, k = after layer k), concatenated along the feature axis.
    ///
    /// pixels: [tiles, 3, S, S] → [tiles, tokens, d_v · |wanted|]. Spec: E5.1–E5.4, R5.1
    pub fn features<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        pixels: ArrayView4<'_, f32>,
        wanted: &[usize],
    ) -> Array3<T> {
        self.rated_features(pass, pixels, wanted, None).0
    }

    /// As [`features`](Self::features), and the ratings of each token in the last layer: [tiles · tokens, columns].
    /// Spec: E9.30, E9.31, E9.35
    pub fn rated_features<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        pixels: ArrayView4<'_, f32>,
        wanted: &[usize],
        rate: Option<Rate>,
    ) -> (Array3<T>, Array2<T>) {
        let tokens = self.config.tokens();
        let width = self.config.hidden * wanted.len();
        let mut groups = Vec::new();
        let features = in_groups(pass, pixels, (tokens, width), |pass, pixels| {
            let (x, of_group) = self.tiles(pass, pixels, wanted, rate);
            groups.push(of_group);
            x
        });
        (features, stacked(&groups))
    }

    fn tiles<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        pixels: ArrayView4<'_, f32>,
        wanted: &[usize],
        rate: Option<Rate>,
    ) -> (Array2<T>, Array2<T>) {
        let (c, tokens) = (&self.config, self.config.tokens());
        let mut x = embedded(pass, &self.patch_embedding, pixels, c.patch);
        if let Some((class, _)) = &self.class {
            x = with_class(x.view(), class, tokens);
        }
        let mut position = vec![T::ZERO; c.hidden];
        for token in 0..tokens {
            self.position_embedding.view().row_into(token, &mut position);
            for tile in 0..pixels.dim().0 {
                let mut row = x.row_mut(tile * tokens + token);
                row.iter_mut().zip(&position).for_each(|(x, &p)| *x += p);
            }
        }
        let mut x = pass.store(x);
        if let Some((_, norm)) = &self.class {
            x = norm.forward(pass, x.view()); // E5.16
        }
        let mut states: Vec<(usize, Array2<T>)> = Vec::new();
        let keep = |k: usize, x: &Array2<T>, states: &mut Vec<_>| {
            if wanted.contains(&k) {
                states.push((k, x.clone()));
            }
        };
        keep(0, &x, &mut states);
        let (lengths, mut ratings) = (vec![tokens; pixels.dim().0], unrated());
        for (i, layer) in self.layers.iter().enumerate() {
            let rate = rate.filter(|_| i + 1 == self.layers.len());
            (x, ratings) = layer.forward(pass, x, &lengths, None, rate);
            x = shown(pass, i, x, tokens);
            keep(i + 1, &x, &mut states);
        }
        let of = |k: &usize| match states.iter().find(|(at, _)| at == k) {
            Some((_, x)) => x.view(),
            None => unreachable!("E5.1: the layers needed are loaded"),
        };
        let all: Vec<ArrayView2<'_, T>> = wanted.iter().map(of).collect();
        (concatenate(Axis(1), &all).unwrap_or_else(|_| unreachable!("E5.1: equal rows")), ratings)
    }
}

/// Puts the class token before the patches of each tile. x: [tiles · (tokens − 1), d_v] → [tiles · tokens, d_v].
/// Spec: E5.16
fn with_class<T: Real>(x: ArrayView2<'_, T>, class: &[f32], tokens: usize) -> Array2<T> {
    let tiles = x.nrows() / (tokens - 1);
    Array2::from_shape_fn((tiles * tokens, x.ncols()), |(row, i)| match row % tokens {
        0 => T::of_f32(class[i]),
        _ => x[[row - row / tokens - 1, i]],
    })
}
