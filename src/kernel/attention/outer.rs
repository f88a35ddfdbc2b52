//! The two products of attention, scores and mix, both computed by one tile: its sums stay in registers while rows of
//! numbers stream past. The lanes of a register hold different sums (of keys, or of elements of a head), so each sum is
//! computed in order. Spec: E3.4, D3.5

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

use crate::kernel::simd::Registers;
use crate::kernel::vector::{CacheElement, Vector};
use crate::num::{LANES, Real};

/// Entries of a chunk: each chunk is mixed separately, then the chunks are added; counted from cache position 0.
/// Spec: D3.5
pub const CHUNK: usize = 256;

/// Rows of a tile. This number times 4 registers of AVX-512, or 2 of AVX2, fills the registers of the set with sums.
pub const TILE: usize = 6;

/// parts\[r, i\] ← fma(a_r\[t\], b\[t · stride + i · apart + lane\], parts\[r, i\]) for t = 0, 1, …: R rows, N
/// registers of lanes. Step t prefetches the memory at element next.0 + t · next.1.
#[inline(always)]
fn outer<V: Vector, S: CacheElement<V::Number>, const R: usize, const N: usize>(
    a: &[&[V::Number]; R],
    b: &[S],
    (stride, apart): (usize, usize),
    next: (usize, usize),
) -> [[V; N]; R] {
    let len = a[0].len();
    let mut rows = *a;
    for r in 0..R {
        rows[r] = &a[r][..len];
    }
    let mut sums = [[V::zero(); N]; R];
    for t in 0..len {
        V::prefetch(b, next.0 + t * next.1);
        let b = &b[t * stride..][..(N - 1) * apart + V::WIDTH];
        let mut lanes = [V::zero(); N];
        for i in 0..N {
            lanes[i] = S::load(&b[i * apart..][..V::WIDTH]);
        }
        for r in 0..R {
            let x = V::splat(rows[r][t]);
            for i in 0..N {
                sums[r][i] = x.fma(lanes[i], sums[r][i]);
            }
        }
    }
    sums
}

/// scores\[r, i\] = scale · Σ_d q_r\[d\] · k_i\[d\], by blocks of 16 keys, each read once for all queries.
///
/// q: rows of d_h, keys: blocked (D3.4), scores: rows of `stride` numbers, whole blocks. Spec: E3.4
#[inline(always)]
pub fn fill_scores<T: Registers, S: CacheElement<T>, V: Vector<Number = T>>(
    q: &[&[T]],
    keys: &[S],
    scale: T,
    scores: &mut [T],
    stride: usize,
) {
    match by_fours(q.len()) {
        true => scores_of::<T, S, V, 4>(q, keys, scale, scores, stride),
        false => scores_of::<T, S, V, TILE>(q, keys, scale, scores, stride),
    }
}

/// Whether tiles of four rows leave fewer rows empty than tiles of six. Seven queries take two tiles of either size.
pub(super) fn by_fours(rows: usize) -> bool {
    rows.next_multiple_of(4) < rows.next_multiple_of(TILE)
}

#[inline(always)]
fn scores_of<T: Registers, S: CacheElement<T>, V: Vector<Number = T>, const R: usize>(
    q: &[&[T]],
    keys: &[S],
    scale: T,
    scores: &mut [T],
    stride: usize,
) {
    let Some(d) = q.first().map(|q| q.len()) else { return };
    let blocks = (stride / LANES).min(keys.len() / (d * LANES).max(1));
    // Four blocks at once fill the registers of AVX-512.
    let wide = if V::WIDTH == LANES { blocks / 4 * 4 } else { 0 };
    for block in (0..wide).step_by(4) {
        score_blocks::<T, S, V, R, 4>(q, keys, scale, scores, stride, (block, d * LANES));
    }
    for block in wide..blocks {
        match LANES / V::WIDTH {
            1 => score_blocks::<T, S, V, R, 1>(q, keys, scale, scores, stride, (block, 0)),
            _ => score_blocks::<T, S, V, R, 2>(q, keys, scale, scores, stride, (block, V::WIDTH)),
        }
    }
}

/// The scores of the keys of some blocks: N registers of keys, which are `apart` numbers from each other. If a block
/// has more keys than the N registers, all keys of the block.
#[inline(always)]
fn score_blocks<T: Registers, S: CacheElement<T>, V: Vector<Number = T>, const R: usize, const N: usize>(
    q: &[&[T]],
    keys: &[S],
    scale: T,
    scores: &mut [T],
    stride: usize,
    (block, apart): (usize, usize),
) {
    let d = q[0].len();
    let (keys, all) = (&keys[block * d * LANES..], (N * V::WIDTH).max(LANES));
    for first in (0..q.len()).step_by(R) {
        let mut rows = [q[first]; R];
        for r in 0..R {
            rows[r] = q[(first + r).min(q.len() - 1)];
        }
        // Several passes read these keys. Each prefetches its share of the next keys, so that memory is never idle.
        let sweeps = all / (N * V::WIDTH);
        let passes = q.len().div_ceil(R) * sweeps;
        for sweep in 0..sweeps {
            let at = sweep * N * V::WIDTH;
            let pass = first / R * sweeps + sweep;
            let next = (d * all + d * all * pass / passes - at, (all / passes).max(1));
            let parts = outer::<V, S, R, N>(&rows, &keys[at..], (LANES, apart), next);
            for r in 0..R.min(q.len() - first) {
                let to = &mut scores[(first + r) * stride + block * LANES + at..][..N * V::WIDTH];
                for i in 0..N {
                    parts[r][i].store(&mut to[i * V::WIDTH..]);
                }
                to.iter_mut().for_each(|s| *s *= scale);
            }
        }
    }
}

/// out_r\[d\] = Σ_i p_r\[i\] · v_i\[d\]: in order over entries within a chunk of 256; chunks are added in order. Each
/// chunk of values is read once for all rows.
///
/// p: rows of `stride` numbers, of which row r uses the first seen\[r\]; values: [len, d_h], outs: rows of d_h.
/// Spec: E3.5, D3.5
#[inline(always)]
pub fn add_mix<T: Registers, S: CacheElement<T>, V: Vector<Number = T>>(
    p: &[T],
    stride: usize,
    seen: &[usize],
    values: &[S],
    outs: &mut [&mut [T]],
) {
    match by_fours(outs.len()) {
        true => mix_of::<T, S, V, 4>(p, stride, seen, values, outs),
        false => mix_of::<T, S, V, TILE>(p, stride, seen, values, outs),
    }
}

#[inline(always)]
fn mix_of<T: Registers, S: CacheElement<T>, V: Vector<Number = T>, const R: usize>(
    p: &[T],
    stride: usize,
    seen: &[usize],
    values: &[S],
    outs: &mut [&mut [T]],
) {
    outs.iter_mut().for_each(|out| out.fill(T::ZERO));
    let Some(d) = outs.first().map(|out| out.len()) else { return };
    let (most, groups) = (seen.iter().fold(0, |m, &s| m.max(s)), seen.len().div_ceil(R));
    for start in (0..most).step_by(CHUNK) {
        for first in (0..outs.len()).step_by(R) {
            let count = R.min(outs.len() - first);
            let outs = &mut outs[first..first + count];
            // The part of the chunk that each row sees. If the tile has more rows than remain, the last row fills the
            // tile; its copies are not written.
            let mut rows = [&p[..0]; R];
            for r in 0..R {
                let row = first + r.min(count - 1);
                let end = seen[row].clamp(start, start + CHUNK);
                rows[r] = &p[row * stride..][start..end];
            }
            let values = &values[start * d..];
            mix_rows::<T, S, V, R>(&rows, values, d, (first / R, groups, CHUNK), outs);
        }
    }
}

/// Adds a chunk's mix to the outputs of R rows. values: [chunk, d_h]; the rows are group `group` of `groups`, all of which
/// read these values.
#[inline(always)]
pub(super) fn mix_rows<T: Registers, S: CacheElement<T>, V: Vector<Number = T>, const R: usize>(
    rows: &[&[T]; R],
    values: &[S],
    d: usize,
    (group, groups, chunk): (usize, usize, usize),
    outs: &mut [&mut [T]],
) {
    if d < V::WIDTH {
        for r in 0..outs.len() {
            narrow(rows[r], values, outs[r]);
        }
        return;
    }
    let most = if V::WIDTH == LANES { 4 } else { 2 };
    let mut done = 0;
    while done < d {
        let registers = match (d - done) / V::WIDTH {
            4.. if most == 4 => 4,
            2.. => 2,
            _ => 1,
        };
        // The last registers may overlap elements that are already done: their values are the same and are not
        // added again.
        let at = done.min(d - registers * V::WIDTH);
        // Prefetches as for keys: a chunk's values are read in several passes, some elements in each pass.
        let passes = groups * d.div_ceil(most * V::WIDTH);
        let pass = group * d.div_ceil(most * V::WIDTH) + done / (most * V::WIDTH);
        let next = (chunk * d + chunk * d * pass / passes, (d / passes).max(1));
        match registers {
            4 => mix_tile::<T, S, V, R, 4>(rows, values, d, (at, done), next, outs),
            2 => mix_tile::<T, S, V, R, 2>(rows, values, d, (at, done), next, outs),
            _ => mix_tile::<T, S, V, R, 1>(rows, values, d, (at, done), next, outs),
        }
        done = at + registers * V::WIDTH;
    }
}

/// Adds a chunk's mix to the outputs: N registers of elements from `at` on; the elements from `fresh` on are new.
#[inline(always)]
fn mix_tile<T: Registers, S: CacheElement<T>, V: Vector<Number = T>, const R: usize, const N: usize>(
    p: &[&[T]; R],
    values: &[S],
    d: usize,
    (at, fresh): (usize, usize),
    next: (usize, usize),
    outs: &mut [&mut [T]],
) {
    let mut common = p[0].len();
    for r in 1..R {
        common = common.min(p[r].len());
    }
    let mut rows = *p;
    for r in 0..R {
        rows[r] = &p[r][..common];
    }
    let parts = outer::<V, S, R, N>(&rows, &values[at..], (d, V::WIDTH), next);
    for r in 0..outs.len() {
        let mut lanes = [T::ZERO; 4 * LANES];
        for i in 0..N {
            parts[r][i].store(&mut lanes[i * V::WIDTH..]);
        }
        let lanes = &mut lanes[..N * V::WIDTH];
        // Under a causal mask a row sees more entries than the rows before it: the entries after the common entries.
        for (i, &p) in p[r].iter().enumerate().skip(common) {
            let v = &values[i * d + at..][..lanes.len()];
            lanes.iter_mut().zip(v).for_each(|(lane, &v)| *lane = p.mul_add(v.widen(), *lane));
        }
        outs[r][fresh..].iter_mut().zip(&lanes[fresh - at..]).for_each(|(o, &part)| *o += part);
    }
}

/// Adds a chunk's mix to one output whose head has fewer elements than a register has lanes.
#[inline(always)]
fn narrow<T: Real, S: CacheElement<T>>(p: &[T], values: &[S], out: &mut [T]) {
    let d = out.len();
    for (at, out) in out.iter_mut().enumerate() {
        let mut part = T::ZERO;
        for (i, &p) in p.iter().enumerate() {
            part = p.mul_add(values[i * d + at].widen(), part);
        }
        *out += part;
    }
}
