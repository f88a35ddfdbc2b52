//! One decoder layer: norm, projections, rotary, attention, output, residual; norm, gated MLP, residual.

use super::qkv::Qkv;
use super::{Segment, stage};
use crate::config::{DecoderConfig, Projections};
use crate::error::Result;
use crate::kernel::{Angles, Aside, Visible, attention_over, rms_norm};
use crate::layer::{GatedMlp, Linear};
use crate::num::Real;
use crate::pass::{Pass, Stage};
use crate::weights::Names;
use ndarray::{Array2, ArrayD, ArrayView3, Axis, s};
use rayon::prelude::*;

/// The weights of a layer.
#[derive(Debug, Clone)]
pub(super) struct Block {
    attention_norm: Vec<f32>,
    qkv: Qkv,
    out: Linear,
    mlp_norm: Vec<f32>,
    mlp: GatedMlp,
}

impl Block {
    pub(super) fn load(ck: &Names<'_>, c: &DecoderConfig, layer: usize) -> Result<Self> {
        let at = |part: &str| format!("decoder.layers.{layer}.{part}");
        let linear = |part: &str, outputs, inputs, bias| Linear::load(ck, &at(part), outputs, inputs, bias);
        let (d, q, kv, mlp) = (c.hidden, c.heads * c.head_dim, c.kv_heads * c.head_dim, c.intermediate);
        Ok(Block {
            attention_norm: ck.vector(&at("input_layernorm.weight"), d)?,
            qkv: match c.projections {
                Projections::Apart => Qkv::Apart(Box::new([
                    linear("self_attn.q_proj", q, d, c.qkv_bias)?,
                    linear("self_attn.k_proj", kv, d, c.qkv_bias)?,
                    linear("self_attn.v_proj", kv, d, c.qkv_bias)?,
                ])),
                Projections::Grouped => Qkv::Grouped(linear("self_attn.qkv_proj", q + 2 * kv, d, c.qkv_bias)?),
            },
            out: linear("self_attn.o_proj", d, q, c.out_bias)?,
            mlp_norm: ck.vector(&at("post_attention_layernorm.weight"), d)?,
            mlp: GatedMlp {
                gate: linear("mlp.gate_proj", mlp, d, false)?,
                up: linear("mlp.up_proj", mlp, d, false)?,
                down: linear("mlp.down_proj", d, mlp, false)?,
                activation: c.activation,
            },
        })
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        let mlp = [&self.mlp.gate, &self.mlp.up, &self.mlp.down];
        let linear = mlp.into_iter().chain([&self.out]).map(Linear::bytes);
        self.qkv.bytes() + linear.sum::<usize>() + 4 * (self.attention_norm.len() + self.mlp_norm.len())
    }

    /// x: [rows, d] → [rows, d]. Spec: E6.2–E6.6, C6.2a, R6.2, R6.5, R6.6
    #[allow(clippy::too_many_arguments)]
    pub(super) fn forward<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        c: &DecoderConfig,
        layer: usize,
        x: Array2<T>,
        angles: &Angles<T>,
        segments: &mut [Segment<'_, T>],
    ) -> Array2<T> {
        // ANCHOR: layer
        let [q, k, v] = unseen(pass, c, layer, x.nrows()).unwrap_or_else(|| {
            let h = pass.store(rms_norm(x.view(), &self.attention_norm, pass.epsilon(c.norm_eps, x.view()), pass.grid)); // E6.2
            let [mut q, mut k, v] = self.qkv.forward(pass, c, h.view());
            angles.rotate(q.view_mut(), c.head_dim, pass.grid); // E6.3, C6.3a
            angles.rotate(k.view_mut(), c.head_dim, pass.grid);
            let q = shown(pass, stage(layer, "query"), q, c.heads);
            let k = shown(pass, stage(layer, "key"), k, c.kv_heads);
            [q, k, shown(pass, stage(layer, "value"), v, c.kv_heads)]
        });

        let mix = mix(pass, c, layer, &q, &k, &v, segments); // E6.4
        let mix = pass.put(stage(layer, "mix"), mix);
        let x = pass.store(x + pass.aside(Aside::Mix, self.out.forward(pass, mix.view()))); // E6.5
        let h = pass.store(rms_norm(x.view(), &self.mlp_norm, pass.epsilon(c.norm_eps, x.view()), pass.grid));
        let x = x + self.mlp.forward(pass, h.view()); // E6.6
        pass.put(stage(layer, "out"), x)
        // ANCHOR_END: layer
    }
}

/// Appends each segment's keys and values to its cache, then lets its queries attend to all of it. Spec: E6.4, C6.4a, C6.4b
#[allow(clippy::too_many_arguments)]
fn mix<T: Real>(
    pass: &Pass<'_, T>,
    c: &DecoderConfig,
    layer: usize,
    q: &Array2<T>,
    k: &Array2<T>,
    v: &Array2<T>,
    segments: &mut [Segment<'_, T>],
) -> Array2<T> {
    let (d, stores) = (c.head_dim, pass.stores());
    let unseen = pass.unseen(stage(layer, "mix"), q.shape()).and_then(|given| given.into_dimensionality().ok());
    let mut mix = Array2::from_elem(q.dim(), T::ZERO);
    let (mut first, mut rest) = (0, mix.view_mut());
    let mut members = Vec::with_capacity(segments.len());
    for segment in segments {
        let (own, others) = rest.split_at(Axis(0), segment.rows);
        (first, rest) = (first + segment.rows, others);
        members.push((first - segment.rows, segment, own));
    }
    // Sequences are independent of each other.
    members.into_par_iter().for_each(|(first, segment, mut own)| {
        let rows = first..first + segment.rows;
        for (g, head) in segment.cache.layers[layer].iter_mut().enumerate() {
            if segment.rows > 1 {
                head.reserve(segment.rows);
            }
            for row in rows.clone() {
                let of = |x: &Array2<T>| x.slice(s![row, g * d..(g + 1) * d]).to_vec();
                head.push(segment.cache.rows + row - first, of(k).into_iter(), of(v).into_iter());
            }
        }
        let queries = q.slice(s![rows.clone(), ..]);
        let seen = by_head(q, c.heads).slice_move(s![.., rows, ..]);
        let observer = segment.observer.as_deref_mut();
        let received = observer.and_then(|o| o.see(layer, segment.cache.rows, seen, c.kv_heads));
        if let (None, Some(own)) = (&unseen, own.as_slice_mut()) {
            let heads = segment.cache.heads(layer);
            let queries = queries.as_slice().unwrap_or_default();
            own.copy_from_slice(&attention_over(queries, c.heads, &heads, d, Visible::Causal, stores, received));
        }
    });
    unseen.unwrap_or(mix)
}

/// Shows what the heads computed; gives back what the pass goes on with. x: [n, heads · d_h] → the same.
fn shown<T: Real>(pass: &mut Pass<'_, T>, at: Stage, x: Array2<T>, heads: usize) -> Array2<T> {
    match pass.show(at, by_head(&x, heads)) {
        None => x,
        Some(given) => by_row(given, x.dim()).unwrap_or(x),
    }
}

/// Queries, keys and values that a replay goes on with, where nobody wants to see them; each [n, heads · d_h].
fn unseen<T: Real>(pass: &Pass<'_, T>, c: &DecoderConfig, layer: usize, n: usize) -> Option<[Array2<T>; 3]> {
    let of = |site, heads: usize| {
        let given = pass.unseen(stage(layer, site), &[heads, n, c.head_dim])?;
        by_row(given, (n, heads * c.head_dim))
    };
    Some([of("query", c.heads)?, of("key", c.kv_heads)?, of("value", c.kv_heads)?])
}

/// [heads, n, d_h] as [n, heads · d_h].
fn by_row<T: Real>(given: ArrayD<T>, dim: (usize, usize)) -> Option<Array2<T>> {
    let rows = given.permuted_axes(vec![1, 0, 2]).as_standard_layout().into_owned();
    rows.into_shape_with_order(dim).ok()
}

/// [n, heads · d_h] seen as [heads, n, d_h].
fn by_head<T: Real>(x: &Array2<T>, heads: usize) -> ArrayView3<'_, T> {
    let (n, width) = x.dim();
    let Ok(v) = x.view().into_shape_with_order((n, heads, width / heads)) else { unreachable!("E6.3: whole heads") };
    v.permuted_axes([1, 0, 2])
}
