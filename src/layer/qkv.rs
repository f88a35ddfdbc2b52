//! The projections to queries, keys and values: three matrices, or one matrix whose outputs are divided among the
//! three.

use super::Linear;
use crate::kernel::recycle;
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, s};
use std::ops::Range;

/// The weights of the three projections, as the checkpoint stores them.
#[derive(Debug, Clone)]
pub struct Qkv {
    matrices: Vec<Linear>,
    /// For queries, for keys and for values: the (matrix, outputs of this matrix) that form the result, in order.
    theirs: [Vec<(usize, Range<usize>)>; 3],
}

impl Qkv {
    /// Three matrices, one for each projection.
    pub fn apart(each: [Linear; 3]) -> Qkv {
        let theirs = [0, 1, 2].map(|i| vec![(i, 0..each[i].weight.rows())]);
        Qkv { matrices: each.into(), theirs }
    }

    /// One matrix whose rows are first the query rows, then the key rows, then the value rows, of these widths.
    /// Spec: E5.12
    pub fn stacked(all: Linear, [q, k, v]: [usize; 3]) -> Qkv {
        Qkv { matrices: vec![all], theirs: [0..q, q..q + k, q + k..q + k + v].map(|rows| vec![(0, rows)]) }
    }

    /// One matrix. For each KV head it holds the rows of the group's query heads, then the key, then the value.
    /// Spec: E6.13
    pub fn grouped(all: Linear, (heads, kv_heads, d_h): (usize, usize, usize)) -> Qkv {
        let share = heads / kv_heads; // query heads of one group
        let part = |first: usize, of: usize| {
            let start = |g: usize| (g * (share + 2) + first) * d_h;
            (0..kv_heads).map(|g| (0, start(g)..start(g) + of * d_h)).collect()
        };
        Qkv { matrices: vec![all], theirs: [part(0, share), part(share, 1), part(share + 1, 1)] }
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.matrices.iter().map(Linear::bytes).sum()
    }

    /// h: [n, d] → queries [n, H·d_h], keys [n, G·d_h] and values [n, G·d_h], stored. Spec: E5.2, E6.2, E6.13, C6.13a
    pub fn forward<T: Real>(&self, pass: &Pass<'_, T>, h: Array2<T>) -> [Array2<T>; 3] {
        let mut products = Linear::together(&self.matrices, pass, h.view());
        recycle(h);
        [0, 1, 2].map(|i| match &self.theirs[i][..] {
            [(matrix, all)] if all.len() == products[*matrix].ncols() => std::mem::take(&mut products[*matrix]),
            parts => beside(&products, parts),
        })
    }
}

/// Concatenates columns of the products.
fn beside<T: Real>(products: &[Array2<T>], parts: &[(usize, Range<usize>)]) -> Array2<T> {
    let width = parts.iter().map(|(_, columns)| columns.len()).sum();
    let mut all = Array2::from_elem((products[0].nrows(), width), T::ZERO);
    let mut first = 0;
    for (product, columns) in parts {
        let to = first..first + columns.len();
        first = to.end;
        all.slice_mut(s![.., to]).assign(&products[*product].slice(s![.., columns.clone()]));
    }
    all
}
