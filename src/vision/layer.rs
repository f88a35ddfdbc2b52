//! A layer of a vision transformer: norm, attention, residual; norm, MLP, residual. All towers use this layer.

use super::attention::attention_within;
use super::rated::{rated, unrated};
use crate::kernel::{Angles, awake};
use crate::layer::{AnyMlp, Linear, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Branch, Pass};
use crate::policy::Rate;
use ndarray::Array2;

/// The weights of a layer. If a tower does not have one of the optional parts, that part is `None`.
#[derive(Debug, Clone)]
pub struct VitLayer {
    /// Number of heads.
    pub heads: usize,
    /// The norm before the attention.
    pub norm1: Norm,
    /// The projections to queries, keys and values.
    pub qkv: Qkv,
    /// The norm of the queries and the norm of the keys, each over all heads together.
    pub qk_norm: Option<[Norm; 2]>,
    /// The output projection of the attention.
    pub out: Linear,
    /// λ_1, the scale of the attention's output: \[d_v\].
    pub scale1: Option<Vec<f32>>,
    /// The norm before the MLP.
    pub norm2: Norm,
    /// The MLP.
    pub mlp: AnyMlp,
    /// λ_2, the scale of the MLP's output: \[d_v\].
    pub scale2: Option<Vec<f32>>,
}

impl VitLayer {
    /// Runs the layer. x: [n, d_v] → [n, d_v]. lengths: the length of each segment (tile, image or frame), with the sum
    /// n; a row attends only to its own segment. angles: the angles of the n rows, in towers that rotate queries and
    /// keys. rate: what is asked about the rows of this layer. Returns also the answer, [n, columns]: what each row gets
    /// from those that rate, and its key if keys are asked for. Spec: E5.2–E5.4, E5.8, E5.9, E5.12, E5.13, C5.2a, C5.8a, C5.12a, R5.2, E9.30, E9.31
    pub fn forward<T: Real>(
        &self,
        pass: &Pass<'_, T>,
        x: Array2<T>,
        lengths: &[usize],
        angles: Option<&Angles<T>>,
        rate: Option<Rate>,
    ) -> (Array2<T>, Array2<T>) {
        awake();
        let h = self.norm1.forward(pass, x.view()); // E5.2
        let [mut q, mut k, v] = self.qkv.forward(pass, h);
        if let Some([of_q, of_k]) = &self.qk_norm {
            (q, k) = (of_q.forward(pass, q.view()), of_k.forward(pass, k.view())); // E5.12
        }
        if let Some(angles) = angles {
            let d_h = q.ncols() / self.heads;
            [q, k] = [q, k].map(|x| pass.rotate_wide(x, angles, d_h)); // E5.8
        }
        let ratings = rate.map_or_else(unrated, |rate| rated(pass, (&q, &k), self.heads, lengths, rate));
        let mix = attention_within(pass, [q, k, v], self.heads, lengths); // E5.3, E5.9
        let y = pass.branch(Branch::Attention, self.out.forward(pass, mix.view()));
        let x = pass.add(x, pass.scale_columns(y, self.scale1.as_deref()));
        let h = self.norm2.forward(pass, x.view()); // E5.4
        let y = self.mlp.forward(pass, h);
        (pass.add(x, pass.scale_columns(y, self.scale2.as_deref())), ratings)
    }
}
