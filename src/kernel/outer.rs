//! The two products of attention, by one tile: sums over entries or over a head's elements that stay in registers while
//! rows of numbers stream past. Lanes lie over what is not summed, so each sum runs in order. Spec: E3.4, D3.5

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

use super::simd::Registers;
use super::vector::{Kept, Vector};
use crate::num::{LANES, Real};

/// Entries after which partial mixes are added up; counted from cache position 0. Spec: D3.5
const CHUNK: usize = 256;

/// parts\[r\] ← fma(a_r\[t\], b\[t · stride + lane\], parts\[r\]) for t = 0, 1, …: R rows, one or two registers of lanes. At
/// each step memory is asked for: from element next.0 on, next.1 elements further each time.
#[inline(always)]
fn outer<V: Vector, S: Kept<V::Number>, const R: usize>(
    a: &[&[V::Number]; R],
    b: &[S],
    stride: usize,
    registers: usize,
    next: (usize, usize),
    parts: &mut [[V; 2]; R],
) {
    let len = a[0].len();
    let mut rows = *a;
    for r in 0..R {
        rows[r] = &a[r][..len];
    }
    let mut sums = *parts;
    for t in 0..len {
        V::prefetch(b, next.0 + t * next.1);
        let b = &b[t * stride..][..registers * V::WIDTH];
        let mut lanes = [V::zero(); 2];
        for i in 0..registers {
            lanes[i] = S::load(&b[i * V::WIDTH..][..V::WIDTH]);
        }
        for r in 0..R {
            let x = V::splat(rows[r][t]);
            for i in 0..registers {
                sums[r][i] = x.fma(lanes[i], sums[r][i]);
            }
        }
    }
    *parts = sums;
}

/// scores\[r, i\] = scale · Σ_d q_r\[d\] · k_i\[d\], by blocks of 16 keys, each read once for all queries.
///
/// q: rows of d_h, keys: blocked (D3.4), scores: rows of `stride` numbers, whole blocks. Spec: E3.4
#[inline(always)]
pub fn fill_scores<T: Registers, S: Kept<T>, V: Vector<Number = T>, const R: usize>(
    q: &[&[T]],
    keys: &[S],
    scale: T,
    scores: &mut [T],
    stride: usize,
) {
    let Some(d) = q.first().map(|q| q.len()) else { return };
    let registers = (LANES / V::WIDTH).min(2);
    let width = registers * V::WIDTH;
    for (block, keys) in keys.chunks_exact(d * LANES).enumerate().take(stride / LANES) {
        for first in (0..q.len()).step_by(R) {
            let mut rows = [q[first]; R];
            for r in 0..R {
                rows[r] = q[(first + r).min(q.len() - 1)];
            }
            // The passes over a block ask for the next one together, so that memory is never idle.
            let passes = q.len().div_ceil(R) * (LANES / width);
            for at in (0..LANES).step_by(width) {
                let pass = first / R * (LANES / width) + at / width;
                let next = (d * LANES + d * LANES * pass / passes - at, (LANES / passes).max(1));
                let mut parts = [[V::zero(); 2]; R];
                outer::<V, S, R>(&rows, &keys[at..], LANES, registers, next, &mut parts);
                for r in 0..R.min(q.len() - first) {
                    let to = &mut scores[(first + r) * stride + block * LANES + at..][..width];
                    for i in 0..registers {
                        parts[r][i].store(&mut to[i * V::WIDTH..]);
                    }
                    to.iter_mut().for_each(|s| *s *= scale);
                }
            }
        }
    }
}

/// out_r\[d\] = Σ_i p_r\[i\] · v_i\[d\]: in order over entries within a chunk of 256, chunks added in order; each chunk of
/// values is read once for all rows.
///
/// p: rows of `stride` numbers of which row r has seen\[r\], values: [len, d_h], outs: rows of d_h. Spec: E3.5, D3.5
#[inline(always)]
pub fn add_mix<T: Registers, S: Kept<T>, V: Vector<Number = T>, const R: usize>(
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
            // Of each row what it sees of the chunk; missing rows are the last again, and not written.
            let mut rows = [&p[..0]; R];
            for r in 0..R {
                let row = first + r.min(count - 1);
                let end = seen[row].clamp(start, start + CHUNK);
                rows[r] = &p[row * stride..][start..end];
            }
            let values = &values[start * d..];
            if d < V::WIDTH {
                for r in 0..count {
                    narrow(rows[r], values, outs[r]);
                }
                continue;
            }
            let mut done = 0;
            while done < d {
                let registers = ((d - done) / V::WIDTH).clamp(1, 2);
                // The last register may hold lanes that are done: they come out the same and are not added again.
                let at = done.min(d - registers * V::WIDTH);
                // As for keys; a chunk's values are read in passes of some lanes each.
                let passes = groups * d.div_ceil(2 * V::WIDTH);
                let pass = first / R * d.div_ceil(2 * V::WIDTH) + done / (2 * V::WIDTH);
                let next = (CHUNK * d + CHUNK * d * pass / passes, (d / passes).max(1));
                mix_tile::<T, S, V, R>(&rows, values, d, (at, done), registers, next, outs);
                done = at + registers * V::WIDTH;
            }
        }
    }
}

/// Lanes at.. of a chunk's mix, added to the outputs from element `fresh` on.
#[inline(always)]
fn mix_tile<T: Registers, S: Kept<T>, V: Vector<Number = T>, const R: usize>(
    p: &[&[T]; R],
    values: &[S],
    d: usize,
    (at, fresh): (usize, usize),
    registers: usize,
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
    let mut parts = [[V::zero(); 2]; R];
    if common > 0 {
        match registers {
            2 => outer::<V, S, R>(&rows, &values[at..], d, 2, next, &mut parts),
            _ => outer::<V, S, R>(&rows, &values[at..], d, 1, next, &mut parts),
        }
    }
    for r in 0..outs.len() {
        let mut lanes = [T::ZERO; 2 * LANES];
        for i in 0..registers {
            parts[r][i].store(&mut lanes[i * V::WIDTH..]);
        }
        let lanes = &mut lanes[..registers * V::WIDTH];
        // Where a row sees more than its neighbours, as under a causal mask.
        for (i, &p) in p[r].iter().enumerate().skip(common) {
            let v = &values[i * d + at..][..lanes.len()];
            lanes.iter_mut().zip(v).for_each(|(lane, &v)| *lane = p.mul_add(v.widen(), *lane));
        }
        outs[r][fresh..].iter_mut().zip(&lanes[fresh - at..]).for_each(|(o, &part)| *o += part);
    }
}

/// A chunk's mix of one row where a head is narrower than a register.
#[inline(always)]
fn narrow<T: Real, S: Kept<T>>(p: &[T], values: &[S], out: &mut [T]) {
    let d = out.len();
    for (at, out) in out.iter_mut().enumerate() {
        let mut part = T::ZERO;
        for (i, &p) in p.iter().enumerate() {
            part = p.mul_add(values[i * d + at].widen(), part);
        }
        *out += part;
    }
}
