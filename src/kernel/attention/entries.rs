//! Attention of one row over many entries: a decode step over a long cache. Threads share the entries; the bits are the
//! same as from a single thread. Spec: E3.5

use super::outer::{CHUNK, add_mix, fill_scores};
use super::stores::{Stores, scale};
use crate::kernel::cached::HeadView;
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::{Registers, vectorize};
use crate::kernel::team::{are_awake, share};
use crate::kernel::tiles::attention as tiles;
use crate::kernel::vector::{CacheElement, Kernel, Vector};
use crate::num::LANES;

/// Entries of one task if the other threads sleep: it takes as long as waking them.
const ENTRIES: usize = 8 * CHUNK;

/// Entries of one task, of a cache with so many: whole chunks.
pub(super) fn entries_at_once(all: usize) -> usize {
    match are_awake() {
        true => all.div_ceil(rayon::current_num_threads()).next_multiple_of(CHUNK).max(CHUNK),
        false => ENTRIES,
    }
}

/// The most heads of a group in one task. References to the heads are in arrays on the stack, so that a task requests
/// no memory (C6.8c).
const HEADS: usize = 32;

/// The attention of one row, for all query heads of a group. Every score is a separate sum, and so is the mix of a
/// chunk of 256 entries (D3.5): no sum's order depends on the thread that computes it. q, mix: [heads of the group,
/// d_h]; part: the entries of one task, whole chunks.
pub(super) fn over_entries<T: Registers, S: CacheElement<T>>(
    q: &[T],
    d: usize,
    seen: usize,
    part: usize,
    head: HeadView<'_, S>,
    stores: Stores,
    mix: &mut [T],
) {
    let count = q.len() / d;
    let stride = seen.next_multiple_of(LANES);
    let (mut all, mut parts) = (Scratch::new(count * stride), Scratch::new(count * stride));
    // First [parts, queries, entries], then a row for each query.
    let (p, parts) = (all.get_mut(), parts.get_mut());
    let keys = head.keys[..stride * d].chunks(part * d);
    share(parts.chunks_mut(part * count).zip(keys), |(scores, keys)| {
        T::run(Scores { q, d, keys, stores, scores });
    });
    for (i, scores) in parts.chunks(part * count).enumerate() {
        for (row, from) in p.chunks_exact_mut(stride).zip(scores.chunks_exact(scores.len() / count)) {
            row[i * part..][..from.len()].copy_from_slice(from);
        }
    }
    let mut totals = vec![T::ZERO; count];
    share(p.chunks_mut(stride).zip(&mut totals), |(row, total)| {
        *total = vectorize(
            #[inline(always)]
            || stores.weights(&mut row[..seen], scale(d)),
        );
    });
    let (p, mut mixes) = (&*p, Scratch::new(seen.div_ceil(CHUNK) * count * d));
    let values = head.values[..seen * d].chunks(CHUNK * d);
    share(mixes.get_mut().chunks_mut(count * d).zip(values).enumerate(), |(chunk, (parts, values))| {
        T::run(Mix { p: &p[chunk * CHUNK..], stride, d, values, tiles: stores.tiles, parts });
    });
    mix.fill(T::ZERO);
    for part in mixes.get().chunks_exact(count * d) {
        mix.iter_mut().zip(part).for_each(|(o, &part)| *o += part);
    }
    for (r, out) in mix.chunks_exact_mut(d).enumerate() {
        // The caller does not want received attention here, so the weights are not read.
        stores.finish(&mut [], totals[r], out, None);
    }
}

/// The scores of some whole blocks of keys: [queries, entries].
struct Scores<'a, T, S> {
    q: &'a [T],
    d: usize,
    keys: &'a [S],
    stores: Stores,
    scores: &'a mut [T],
}

impl<T: Registers, S: CacheElement<T>> Kernel<T> for Scores<'_, T, S> {
    #[inline(always)]
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(self) {
        let scale = self.stores.at_once(scale(self.d));
        let stride = self.keys.len() / self.d;
        let some = self.q.chunks(HEADS * self.d).zip(self.scores.chunks_mut(HEADS * stride));
        for (q, scores) in some {
            let mut rows = [&q[..0]; HEADS];
            let count = rows.iter_mut().zip(q.chunks_exact(self.d)).map(|(row, q)| *row = q).count();
            match self.stores.tiles {
                true => tiles::fill_scores(&rows[..count], self.keys, scores, stride),
                false => fill_scores::<T, S, V>(&rows[..count], self.keys, scale, scores, stride),
            }
        }
    }
}

/// The mix of one chunk of values; p: rows of `stride` numbers, parts: rows of d.
struct Mix<'a, T, S> {
    p: &'a [T],
    stride: usize,
    d: usize,
    values: &'a [S],
    tiles: bool,
    parts: &'a mut [T],
}

impl<T: Registers, S: CacheElement<T>> Kernel<T> for Mix<'_, T, S> {
    #[inline(always)]
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(self) {
        let seen = [self.values.len() / self.d; HEADS];
        for (i, parts) in self.parts.chunks_mut(HEADS * self.d).enumerate() {
            let mut outs: [&mut [T]; HEADS] = std::array::from_fn(|_| &mut [][..]);
            let count = outs.iter_mut().zip(parts.chunks_exact_mut(self.d)).map(|(out, part)| *out = part).count();
            let p = &self.p[i * HEADS * self.stride..];
            match self.tiles {
                true => tiles::add_mix(p, self.stride, &seen[..count], self.values, &mut outs[..count]),
                false => add_mix::<T, S, V>(p, self.stride, &seen[..count], self.values, &mut outs[..count]),
            }
        }
    }
}
