//! One decoder layer: norm, projections, rotary, attention, output, residual; norm, gated MLP, residual.

use super::attend::attend;
use super::{Member, foresee};
use crate::config::{DecoderConfig, NormKind, Projections};
use crate::error::Result;
use crate::kernel::{Angles, awake};
use crate::layer::{GatedMlp, Linear, Norm, Qkv};
use crate::num::Real;
use crate::pass::{Branch, Pass};
use crate::stage::LayerStages;
use crate::weights::Names;
use ndarray::{Array2, ArrayView2};

/// The weights of one decoder layer.
#[derive(Debug, Clone)]
pub(super) struct Block {
    attention_norm: Norm,
    qkv: Qkv,
    /// The norms of queries and keys, head by head.
    qk_norm: Option<[Norm; 2]>,
    out: Linear,
    mlp_norm: Norm,
    mlp: GatedMlp,
}

impl Block {
    pub(super) fn load(ck: &Names<'_>, c: &DecoderConfig, layer: usize) -> Result<Self> {
        let at = |part: &str| format!("decoder.layers.{layer}.{part}");
        let linear = |part: &str, outputs, inputs, bias| Linear::load(ck, &at(part), outputs, inputs, bias);
        let norm_of = |part: &str, width| Norm::load(ck, &at(part), NormKind::Rms, width, c.norm_eps);
        let norm = |part: &str| norm_of(part, c.hidden);
        let head_norm = |part: &str| norm_of(part, c.head_dim);
        let (d, q, kv, mlp) = (c.hidden, c.heads * c.head_dim, c.kv_heads * c.head_dim, c.intermediate);
        let [gate, up] = match c.projections {
            Projections::Stacked => Linear::stacked(ck, &at("mlp.gate_up_proj"), [mlp, mlp], d)?, // E6.16
            _ => [linear("mlp.gate_proj", mlp, d, false)?, linear("mlp.up_proj", mlp, d, false)?],
        };
        Ok(Block {
            attention_norm: norm("input_layernorm")?,
            qkv: match c.projections {
                Projections::Apart => Qkv::apart([
                    linear("self_attn.q_proj", q, d, c.qkv_bias)?,
                    linear("self_attn.k_proj", kv, d, c.qkv_bias)?,
                    linear("self_attn.v_proj", kv, d, c.qkv_bias)?,
                ]),
                Projections::Grouped => Qkv::grouped(
                    linear("self_attn.qkv_proj", q + 2 * kv, d, c.qkv_bias)?,
                    (c.heads, c.kv_heads, c.head_dim),
                ),
                Projections::Stacked => Qkv::apart(Linear::stacked(ck, &at("self_attn.qkv_proj"), [q, kv, kv], d)?), // E6.16
            },
            qk_norm: match c.qk_norm {
                true => Some([head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?]),
                false => None,
            },
            out: linear("self_attn.o_proj", d, q, c.out_bias)?.ends_branch(),
            mlp_norm: norm("post_attention_layernorm")?,
            mlp: GatedMlp {
                gate,
                up,
                down: linear("mlp.down_proj", d, mlp, false)?.ends_branch(),
                activation: c.activation,
            },
        })
    }

    /// Bytes of the layer's weights.
    pub(super) fn bytes(&self) -> usize {
        let mlp = [&self.mlp.gate, &self.mlp.up, &self.mlp.down];
        let linear = mlp.into_iter().chain([&self.out]).map(Linear::bytes);
        let norms = self.qk_norm.iter().flatten().chain([&self.attention_norm, &self.mlp_norm]).map(Norm::bytes);
        self.qkv.bytes() + linear.sum::<usize>() + norms.sum::<usize>()
    }

    /// Runs the layer. x: [rows, d] → [rows, d]; at: the layer's stages. Spec: E6.2–E6.6, C6.2a, R6.2, R6.5, R6.6
    pub(super) fn forward<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        c: &DecoderConfig,
        at: LayerStages,
        x: Array2<T>,
        angles: &Angles<T>,
        members: &mut [Member<'_, T>],
    ) -> Array2<T> {
        awake();
        // ANCHOR: layer
        let heads = [(at.query, c.heads), (at.key, c.kv_heads), (at.value, c.kv_heads)];
        let mut asked = foresee::asked(at, members);
        let [q, k, v] = pass.put_heads(heads, (x.nrows(), c.head_dim), |pass| {
            let [q, k, v] = self.project(pass, x.view()); // E6.2, E6.14
            if std::mem::take(&mut asked) {
                foresee::add(at, members, &q, c.heads); // E9.37
            }
            [pass.rotate(q, angles, c.head_dim), pass.rotate(k, angles, c.head_dim), v] // E6.3, C6.3a
        });
        if asked {
            let [q, ..] = self.project(pass, x.view()); // a replay knew the queries after rotary
            foresee::add(at, members, &q, c.heads);
        }
        let mix = attend(pass, c, at, [q, k, v], members); // E6.4
        pass.put_rows(at.out, x.dim(), |pass| {
            let x = pass.add(x, pass.branch(Branch::Attention, self.out.forward(pass, mix.view()))); // E6.5
            let h = self.mlp_norm.forward(pass, x.view()); // E6.6
            pass.add(x, self.mlp.forward(pass, h))
        })
        // ANCHOR_END: layer
    }

    /// Queries, keys and values before rotary. x: [rows, d] → [rows, H·d_h], [rows, G·d_h] twice. Spec: E6.2, E6.14
    fn project<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> [Array2<T>; 3] {
        let h = self.attention_norm.forward(pass, x);
        let [mut q, mut k, v] = self.qkv.forward(pass, h);
        if let Some([of_q, of_k]) = &self.qk_norm {
            (q, k) = (of_q.each_head(pass, q), of_k.each_head(pass, k));
        }
        [q, k, v]
    }
}
