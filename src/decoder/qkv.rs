//! The projections to queries, keys and values: three matrices, or InternLM2's one (`wqkv`).

use crate::config::DecoderConfig;
use crate::layer::Linear;
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, ArrayView2, s};

/// The weights of the three projections.
#[derive(Debug, Clone)]
pub(super) enum Qkv {
    /// Queries, keys, values.
    Apart(Box<[Linear; 3]>),
    /// One matrix, KV head by KV head: its query heads, its key, its value. Spec: E6.13
    Grouped(Linear),
}

impl Qkv {
    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        match self {
            Qkv::Apart(each) => each.iter().map(Linear::bytes).sum(),
            Qkv::Grouped(all) => all.bytes(),
        }
    }

    /// h: [rows, d] → queries [rows, H·d_h], keys and values [rows, G·d_h]. Spec: E6.3, E6.13, C6.13a
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, c: &DecoderConfig, h: ArrayView2<'_, T>) -> [Array2<T>; 3] {
        match self {
            Qkv::Apart(each) => [0, 1, 2].map(|i| each[i].forward(pass, h)),
            Qkv::Grouped(all) => {
                let qkv = all.forward(pass, h);
                let share = c.heads / c.kv_heads; // query heads of a group
                let part = |first: usize, heads: usize| {
                    let mut part = Array2::from_elem((qkv.nrows(), c.kv_heads * heads * c.head_dim), T::ZERO);
                    let size = heads * c.head_dim;
                    for g in 0..c.kv_heads {
                        let from = (g * (share + 2) + first) * c.head_dim;
                        part.slice_mut(s![.., g * size..(g + 1) * size]).assign(&qkv.slice(s![.., from..from + size]));
                    }
                    part
                };
                [part(0, share), part(share, 1), part(share + 1, 1)]
            }
        }
    }
}
