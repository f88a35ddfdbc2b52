//! Attention of a vision tower: a row attends to all rows of its own tile, image or frame, and to no other rows.

use crate::kernel::{HeadView, array, push_key, recycle, share};
use crate::num::{LANES, Real};
use crate::pass::Pass;
use ndarray::Array2;

/// Attention within each segment of rows. q, k, v: [rows, d_v]; lengths: the length of each segment, with the sum
/// `rows` → [rows, d_v]. Spec: E5.3, C5.3a
pub fn attention_within<T: Real>(
    pass: &Pass<'_, T>,
    [q, k, v]: [Array2<T>; 3],
    heads: usize,
    lengths: &[usize],
) -> Array2<T> {
    let (rows, width) = q.dim();
    let (mut first, d) = (0, width / heads);
    let mut mix = array(rows, width);
    let Some(to) = mix.as_slice_mut() else { unreachable!("E5.3: rows lie side by side") };
    let mut rest = to;
    for &length in lengths {
        let [q, k, v] = [&q, &k, &v].map(|x| &flat(x)[first * width..][..length * width]);
        let mut stored: Vec<[Vec<T>; 2]> = vec![Default::default(); heads];
        share(stored.iter_mut().enumerate(), |(h, [keys, values])| {
            keys.reserve_exact(length.next_multiple_of(LANES) * d);
            values.reserve_exact(length * d);
            for (i, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
                push_key(keys, i, k[h * d..][..d].iter().copied());
                values.extend_from_slice(&v[h * d..][..d]);
            }
        });
        let views: Vec<HeadView<'_, T>> = stored.iter().map(|[keys, values]| HeadView { keys, values }).collect();
        let (own, others) = rest.split_at_mut(length * width);
        pass.attention().all(q, (heads, d), views, own);
        (first, rest) = (first + length, others);
    }
    [q, k, v].into_iter().for_each(recycle);
    mix
}

/// The numbers of an array, row-major.
fn flat<T>(x: &Array2<T>) -> &[T] {
    x.as_slice().unwrap_or_else(|| unreachable!("E5.3: rows lie side by side"))
}
