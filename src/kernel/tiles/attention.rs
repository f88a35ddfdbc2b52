//! The two products of attention in the order of sums of a matrix unit. Naive twin: [`attend_in_tiles`](crate::kernel::naive::attend_in_tiles).
//! Spec: E3.17, C3.17a, C3.17b

#![allow(clippy::needless_range_loop)] // loops over lanes read as the equations do, by index

#[cfg(target_arch = "x86_64")]
use super::products;
use super::sums_of;
use super::tile::SIDE;
use crate::kernel::attention::CHUNK;
use crate::kernel::vector::CacheElement;
use crate::num::{BLOCK, LANES, Real};

/// scores\[r, i\] = Σ_c q_r\[c\] · k_i\[c\], for whole blocks of 16 keys.
///
/// q: rows of d_h, keys: blocked (D3.4), scores: rows of `stride` numbers, whole blocks. Spec: E3.17
#[inline(always)]
pub fn fill_scores<T: Real, S: CacheElement<T>>(q: &[&[T]], keys: &[S], scores: &mut [T], stride: usize) {
    let Some(d) = q.first().map(|q| q.len()) else { return };
    let blocks = (stride / LANES).min(keys.len() / (d * LANES).max(1));
    let keys = &keys[..blocks * d * LANES];
    #[cfg(target_arch = "x86_64")]
    if super::available() && products::scores(q, keys, bytemuck::cast_slice_mut(scores), stride) {
        return;
    }
    let mut columns = vec![[0f32; SIDE]; d.next_multiple_of(BLOCK)];
    let mut row = vec![0f32; columns.len()];
    for (block, keys) in keys.chunks_exact(d * LANES).enumerate() {
        for (to, from) in columns.iter_mut().zip(keys.as_chunks::<LANES>().0) {
            *to = from.map(|k| k.widen().to_f32());
        }
        for (q, scores) in q.iter().zip(scores.chunks_mut(stride)) {
            row.iter_mut().zip(*q).for_each(|(to, q)| *to = q.to_f32());
            let sums = sums_of([0.0; SIDE], &row, &columns);
            scores[block * LANES..][..LANES].iter_mut().zip(sums).for_each(|(to, sum)| *to = T::of_f32(sum));
        }
    }
}

/// out_r\[c\] = Σ_i p_r\[i\] · v_i\[c\], chunk after chunk of 256 entries.
///
/// p: rows of `stride` numbers, of which row r uses the first seen\[r\]; values: [len, d_h], outs: rows of d_h.
/// Spec: E3.17, D3.5
#[inline(always)]
pub fn add_mix<T: Real, S: CacheElement<T>>(
    p: &[T],
    stride: usize,
    seen: &[usize],
    values: &[S],
    outs: &mut [&mut [T]],
) {
    outs.iter_mut().for_each(|out| out.fill(T::ZERO));
    let Some(d) = outs.first().map(|out| out.len()) else { return };
    let most = seen.iter().fold(0, |m, &s| m.max(s));
    for start in (0..most).step_by(CHUNK) {
        let (p, values) = (&p[start..], &values[start * d..most.min(start + CHUNK) * d]);
        let count = |row: usize| seen[row].clamp(start, start + CHUNK) - start;
        #[cfg(target_arch = "x86_64")]
        if super::available() && products::mix(p, stride, count, values, outs) {
            continue;
        }
        let (mut columns, mut weights) = (vec![[0f32; SIDE]; CHUNK], vec![0f32; CHUNK]);
        for first in (0..d).step_by(SIDE) {
            let last = d.min(first + SIDE);
            for (row, out) in outs.iter_mut().enumerate() {
                let count = count(row);
                // Entries that the row does not see are 0 in both factors.
                columns.fill([0.0; SIDE]);
                weights.fill(0.0);
                for i in 0..count {
                    weights[i] = p[row * stride + i].to_f32();
                    let from = &values[i * d + first..i * d + last];
                    columns[i].iter_mut().zip(from).for_each(|(to, v)| *to = v.widen().to_f32());
                }
                let whole = count.next_multiple_of(BLOCK);
                let sums = sums_of([0.0; SIDE], &weights[..whole], &columns[..whole]);
                out[first..last].iter_mut().zip(sums).for_each(|(o, sum)| *o += T::of_f32(sum));
            }
        }
    }
}
