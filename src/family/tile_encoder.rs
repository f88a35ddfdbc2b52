//! The encoder of families that cut images into tiles for a SigLIP or CLIP tower: tower, two-layer projector, packing with
//! newline rows. Source: transformers `modeling_{llava,llava_next,llava_onevision}.py`.

use super::encoder::{Encode, with_ratings};
use crate::config::{Activation, SiglipConfig};
use crate::error::Result;
use crate::input::{Prepared, PreparedImage};
use crate::layer::{Linear, Mlp};
use crate::num::Real;
use crate::pass::{Pass, Stored};
use crate::policy::Rate;
use crate::stage::{Site, Stage};
use crate::vision::{Siglip, pack};
use crate::weights::Names;
use ndarray::{Array2, Array4, Axis, concatenate, s};

/// What a configuration says about the encoder.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileParts<'a> {
    pub vision: &'a SiglipConfig,
    /// The states of the tower that the projector reads, concatenated.
    pub feature_layers: &'a [usize],
    /// Whether the first token of each tile is dropped.
    pub drop_first: bool,
    pub activation: Activation,
    /// Whether the projector's layers have biases.
    pub bias: bool,
    /// Whether the checkpoint has a newline row.
    pub newline: bool,
    /// d: width of the language model.
    pub hidden: usize,
}

impl TileParts<'_> {
    /// The number of tower layers that are computed: all layers up to the last one whose output is read.
    pub fn used_layers(&self) -> usize {
        self.feature_layers.iter().copied().max().unwrap_or(0)
    }
}

/// The part of the model before the language model: tower, projector and newline row.
#[derive(Debug, Clone)]
pub(super) struct TileEncoder {
    feature_layers: Vec<usize>,
    drop_first: bool,
    tower: Siglip,
    projector: Mlp,
    /// \[d\]; zeros in families without newlines, which do not use it.
    newline: Vec<f32>,
}

impl TileEncoder {
    /// Loads tower, projector and newline row from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(names: &Names<'_>, parts: TileParts<'_>) -> Result<Self> {
        let (d, single) = (parts.hidden, parts.feature_layers.len() == 1);
        let linear = |name: &str, inputs| Linear::load(names, &format!("projector.{name}"), d, inputs, parts.bias);
        Ok(TileEncoder {
            tower: Siglip::load(names, parts.vision, parts.used_layers())?,
            projector: Mlp {
                fc1: Linear {
                    // transformers passes the features of a single layer as a strided view. For a strided input,
                    // PyTorch adds the projection's bias in a separate operation (R10.6).
                    stored: if single { Stored::Twice } else { Stored::Once },
                    ..linear("linear_1", parts.vision.hidden * parts.feature_layers.len())?
                },
                activation: parts.activation,
                fc2: linear("linear_2", d)?,
            },
            newline: if parts.newline { names.vector("newline", d)? } else { vec![0.0; d] },
            feature_layers: parts.feature_layers.to_vec(),
            drop_first: parts.drop_first,
        })
    }
}

impl Encode for TileEncoder {
    /// Spec: E5.1, E5.5, C5.5a, E5.6, E5.16, E9.30, E9.36
    fn encode<T: Real>(&self, pass: &mut Pass<'_, T>, prompt: &Prepared, rate: Option<Rate>) -> Array2<T> {
        let pixels: Array4<f32> = PreparedImage::joined(&prompt.images);
        let (features, ratings) = self.tower.rated_features(pass, pixels.view(), &self.feature_layers, rate); // E5.1
        let (first, tokens) = (usize::from(self.drop_first), features.dim().1);
        let seen: Vec<usize> = (0..ratings.nrows()).filter(|row| row % tokens >= first).collect();
        let ratings = ratings.select(Axis(0), &seen);
        let features = features.slice_move(s![.., first.., ..]);
        let features = pass.show(Stage::once(Site::Features), features);

        let (tiles, tokens, width) = features.dim();
        let features = features.to_shape((tiles * tokens, width)).unwrap_or_else(|_| unreachable!("E5.5: whole tiles"));
        let read = if rate.is_some_and(|rate| rate.keys) { features.to_owned() } else { Array2::default((0, 0)) };
        let projected = self.projector.forward(pass, features.into_owned()); // E5.5
        let projected = with_ratings(projected, ratings.view());
        let projected = with_ratings(projected, read.view());
        let width = projected.ncols();
        let shaped = projected.to_shape((tiles, tokens, width));
        let projected = shaped.unwrap_or_else(|_| unreachable!("E5.5: whole tiles"));
        let mut newline = self.newline.clone();
        newline.resize(width, 0.0); // nothing looks at it, and it has no key

        let mut first = 0;
        let mut packed = Vec::with_capacity(prompt.images.len());
        for image in &prompt.images {
            let tiles = first..first + image.packing.tiles;
            packed.push(pack(projected.slice(s![tiles.clone(), .., ..]), &image.packing, &newline)); // E5.6
            first = tiles.end;
        }
        let views: Vec<_> = packed.iter().map(|p| p.view()).collect();
        concatenate(Axis(0), &views).unwrap_or_else(|_| unreachable!("E5.6: rows of one width"))
    }

    fn project<T: Real>(&self, pass: &Pass<'_, T>, sums: Array2<T>) -> Array2<T> {
        self.projector.forward(pass, sums)
    }
}
