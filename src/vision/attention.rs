//! Attention of a vision tower: a row attends to all rows of its own tile, image or frame, and to no other rows.

use crate::kernel::{HeadView, push_key};
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, s};

/// Attention within each segment of rows. q, k, v: [rows, d_v]; lengths: the length of each segment, with the sum
/// `rows` → [rows, d_v]. Spec: E5.3, C5.3a
pub fn attention_within<T: Real>(
    pass: &Pass<'_, T>,
    q: &Array2<T>,
    k: &Array2<T>,
    v: &Array2<T>,
    heads: usize,
    lengths: &[usize],
) -> Array2<T> {
    let (mut first, d) = (0, q.ncols() / heads);
    let mut mix = Vec::with_capacity(q.len());
    for &length in lengths {
        let of = |x: &Array2<T>, h: usize| x.slice(s![first..first + length, h * d..(h + 1) * d]).to_owned();
        let stored: Vec<(Vec<T>, Array2<T>)> = (0..heads)
            .map(|h| {
                let mut keys = Vec::new();
                for (i, key) in of(k, h).outer_iter().enumerate() {
                    push_key(&mut keys, i, key.iter().copied());
                }
                (keys, of(v, h))
            })
            .collect();
        let views: Vec<HeadView<'_, T>> = stored.iter().map(|(keys, v)| HeadView { keys, values: flat(v) }).collect();
        let q = &flat(q)[first * q.ncols()..][..length * q.ncols()];
        mix.extend(pass.attention().all(q, (heads, d), &views));
        first += length;
    }
    Array2::from_shape_vec(q.dim(), mix).unwrap_or_else(|_| unreachable!("E5.3: one row a query"))
}

/// The numbers of an array, row-major.
fn flat<T>(x: &Array2<T>) -> &[T] {
    x.as_slice().unwrap_or_else(|| unreachable!("E5.3: rows lie side by side"))
}
