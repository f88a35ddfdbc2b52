//! Attention in the decoder: each sequence appends its keys and values to its cache; its queries then attend to all of
//! that cache.

use super::{Member, Sequence};
use crate::cache::HeadCache;
use crate::config::DecoderConfig;
use crate::kernel::{array, recycle, share};
use crate::num::Real;
use crate::pass::{Pass, by_head};
use crate::stage::LayerStages;
use ndarray::{Array2, Axis, s};

const FLAT: &str = "E6.4: rows lie side by side";

/// q: [rows, H·d_h], k, v: [rows, G·d_h] → mix: [rows, H·d_h]. The rows of all members are concatenated.
/// Spec: E6.4, C6.4a, C6.4b
pub(super) fn attend<T: Real>(
    pass: &mut Pass<'_, T>,
    c: &DecoderConfig,
    at: LayerStages,
    [q, k, v]: [Array2<T>; 3],
    members: &mut [Member<'_, T>],
) -> Array2<T> {
    let (layer, prefill) = (at.mix.layer, !at.mix.is_step());
    let mut end = 0;
    let ends: Vec<usize> = members.iter().map(|(_, rows)| (end += rows, end).1).collect();
    // Sequences are independent of each other.
    share(members.iter_mut().zip(&ends), |((sequence, rows), end)| {
        let own = end - *rows..*end;
        if prefill {
            let seen = by_head(&q, c.heads).slice_move(s![.., own.clone(), ..]);
            sequence.observer.see(layer, sequence.cache.rows, seen, c.kv_heads);
            sequence.pruning.see(layer, sequence.cache.rows, q.slice(s![own.clone(), ..]));
        }
        let Sequence { cache, pruning, .. } = &mut **sequence;
        let cached = cache.rows;
        let push = |(g, head): (usize, &mut HeadCache<T>)| {
            if *rows > 1 {
                head.reserve(*rows);
            }
            for (i, row) in own.clone().enumerate() {
                let [key, value] = [&k, &v].map(|x| x.row(row).to_slice().unwrap_or_else(|| unreachable!("{FLAT}")));
                let own = g * c.head_dim..(g + 1) * c.head_dim;
                let at = if prefill { pruning.row(cached + i) } else { cached + i };
                head.push(at, key[own.clone()].iter().copied(), value[own].iter().copied());
            }
        };
        let heads = &mut cache.layers[layer];
        match *rows {
            1 => heads.iter_mut().enumerate().for_each(push), // a single entry is not worth a task
            _ => share(heads.iter_mut().enumerate(), push),
        }
    });
    let mix = pass.put_rows(at.mix, q.dim(), |pass| {
        let mut mix = array(q.nrows(), q.ncols());
        let mut rest = mix.view_mut();
        let mut tasks = Vec::with_capacity(members.len());
        for ((Sequence { cache, observer, .. }, rows), end) in members.iter_mut().zip(&ends) {
            let (own, others) = rest.split_at(Axis(0), *rows);
            let received = if prefill { observer.received(layer) } else { None };
            tasks.push((q.slice(s![end - *rows..*end, ..]), &*cache, received, own));
            rest = others;
        }
        let attention = pass.attention();
        share(tasks.into_iter(), |(q, cache, received, mut own)| {
            let (Some(q), Some(own)) = (q.as_slice(), own.as_slice_mut()) else { unreachable!("{FLAT}") };
            attention.causal(q, (c.heads, c.head_dim), &cache.heads(layer), received, own);
        });
        pass.store(mix)
    });
    [q, k, v].into_iter().for_each(recycle);
    mix
}
