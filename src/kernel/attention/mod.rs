//! Attention of query rows over the cached keys and values of their KV head.
//!
//! A row takes two sweeps: first all its scores and their maximum; then the weights exp(s − m), their sum, and the mix.
//! Memory holds rows of scores, never a matrix. The order of every sum depends only on positions in the cache, not on
//! the number of rows, threads or chunks of a prefill. Online softmax, which rescales, cannot guarantee that (A3.5).
//!
//! ```text
//! mod       the functions that others call
//! shape     splits the work over threads: rows and KV heads, or (entries) the entries of one long row
//! rows      one task: some rows of queries over the entries of one KV head
//! entries   one row over many entries, which threads share
//! outer     the two products, scores and mix, with sums in registers
//! paired    one task in bf16, where registers hold pairs of bf16
//! stores    what is stored in between: R3.5, R10.3
//! ```
//! In the order of a matrix unit, [`super::tiles`] computes the two products (E3.17).
//! Naive twin: [`super::naive::attention`]. Spec: E3.5

mod entries;
mod outer;
mod paired;
mod rows;
mod shape;
mod stores;

pub use rows::truncated;
pub use stores::{Stores, scale, tf32};

use super::cached::{HeadView, HeadViews};
use super::operands::Operands;
use crate::num::Real;
pub(super) use outer::CHUNK;
use shape::Shape;
pub use shape::Visible;
use std::any::TypeId;

/// The attention of every query head.
///
/// q: [rows, H·d_h] (head-major in a row), heads: the G KV heads, each with its own length → mix: [rows, H·d_h], the
/// heads side by side. Query head h reads KV head h / (H/G). A row that sees nothing gets zeros (C3.5a).
/// With `received`, [G, len], each entry's weight is added to it, summed over rows and the query heads of the group.
///
/// In a GPU's type (`stores`) scores, scaled scores and weights are stored as eager attention stores them (R3.5), or,
/// in a fused kernel, only the unnormalised weights (R10.3).
/// Spec: E3.5
pub fn attention<T: Real>(
    q: &[T],
    query_heads: usize,
    heads: &[HeadView<'_, T>],
    head_dim: usize,
    visible: Visible,
    stores: impl Into<Stores>,
    received: Option<&mut [Vec<T>]>,
) -> Vec<T> {
    let (mut mix, heads) = (vec![T::ZERO; q.len()], HeadViews::Own(heads.to_vec()));
    attention_over(q, query_heads, &heads, head_dim, visible, stores.into(), received, &mut mix);
    mix
}

/// As [`attention`], over a cache that stores numbers of the container, or bf16 or f16, which are widened when read. Every number
/// of `mix`, [rows, H·d_h], is written. Spec: E3.5, D7.4
///
/// # Panics
/// The container is f64, and the cache stores another type (C7.4a) or the order is that of a matrix unit (E3.17).
#[allow(clippy::too_many_arguments)]
pub fn attention_over<T: Real>(
    q: &[T],
    query_heads: usize,
    heads: &HeadViews<'_, T>,
    head_dim: usize,
    visible: Visible,
    stores: Stores,
    received: Option<&mut [Vec<T>]>,
    mix: &mut [T],
) {
    let width = query_heads * head_dim;
    let (rows, group) = (q.len() / width.max(1), query_heads / heads.len().max(1));
    assert_eq!(q.len(), mix.len(), "E3.5: a mix for each query");
    assert!(!stores.tiles || TypeId::of::<T>() == TypeId::of::<f32>(), "E3.17: tiles add in f32");
    if mix.is_empty() {
        return;
    }
    let shape = Shape { rows, width, group, head_dim, visible, stores };
    // Numbers of bf16 and f16 have at most 10 bits of mantissa.
    let narrowed: Vec<_> = match heads {
        HeadViews::Own(heads) if stores.operands != Operands::Whole => {
            heads.iter().map(|head| [head.keys, head.values].map(|x| stores.operands.read_all(x))).collect()
        }
        _ => vec![],
    };
    let narrowed = HeadViews::Own(narrowed.iter().map(|[keys, values]| HeadView { keys, values }).collect());
    let heads = if narrowed.is_empty() { heads } else { &narrowed };
    // Functions that are not generic are compiled once, here; generic functions are compiled again for every caller.
    let (q, to) = (bytemuck::cast_slice(q), bytemuck::cast_slice_mut(mix));
    match heads {
        HeadViews::Own(heads) if TypeId::of::<T>() == TypeId::of::<f32>() => {
            shape.of_f32(q, &cast(heads), to, sums(received));
        }
        HeadViews::Own(heads) => {
            shape.of_f64(bytemuck::cast_slice(q), &cast(heads), bytemuck::cast_slice_mut(to), sums(received));
        }
        HeadViews::Bf16(heads) => {
            assert!(TypeId::of::<T>() == TypeId::of::<f32>(), "C7.4a: only a cache of f32 stores bf16");
            shape.of_bf16(q, heads, to, sums(received));
        }
        HeadViews::F16(heads) => {
            assert!(TypeId::of::<T>() == TypeId::of::<f32>(), "C7.4a: only a cache of f32 stores f16");
            shape.of_f16(q, heads, to, sums(received));
        }
    }
}

/// The same heads; `T` and `U` are the same container.
fn cast<'a, T: Real, U: Real>(heads: &[HeadView<'a, T>]) -> Vec<HeadView<'a, U>> {
    let cast =
        |h: &HeadView<'a, T>| HeadView { keys: bytemuck::cast_slice(h.keys), values: bytemuck::cast_slice(h.values) };
    heads.iter().map(cast).collect()
}

/// The same received sums; `T` and `U` are the same container.
fn sums<T: Real, U: Real>(received: Option<&mut [Vec<T>]>) -> Option<Vec<&mut [U]>> {
    received.map(|received| received.iter_mut().map(|r| bytemuck::cast_slice_mut(r)).collect())
}
