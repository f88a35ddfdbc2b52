//! The two products of attention on the matrix unit. Spec: E3.17, C3.17a

#![allow(clippy::needless_range_loop)] // loops over lanes read as the equations do, by index

use super::amx::Unit;
use super::rows::{BOTH, all, pack_rows};
use super::tile::{PAIRS, SIDE, Strip, Sums, Tile};
use crate::kernel::scratch::Scratch;
use crate::kernel::vector::CacheElement;
use crate::num::{BLOCK, LANES, Real};

/// False if the unit cannot read the numbers: they are no bf16.
#[inline(always)]
pub(super) fn scores<T: Real, S: CacheElement<T>>(q: &[&[T]], keys: &[S], scores: &mut [f32], stride: usize) -> bool {
    let d = q[0].len();
    let (blocks, inputs, pairs) = (keys.len() / (d * LANES), d.div_ceil(BLOCK), q.len().div_ceil(BOTH));
    let mut packed = Scratch::<f32>::new(2 * (pairs + 1) * inputs * PAIRS * SIDE);
    let (rows, columns) = bytemuck::cast_slice_mut::<_, Tile>(packed.get_mut()).split_at_mut(2 * pairs * inputs);
    let mut odd = 0;
    for (q, rows) in q.chunks(BOTH).zip(rows.chunks_exact_mut(2 * inputs)) {
        let mut some = [&q[0][..0]; BOTH];
        some[..q.len()].copy_from_slice(q);
        odd |= pack_rows(&some, inputs, rows);
    }
    let Some(unit) = Unit::take() else { return false };
    let mut sums = Sums::default();
    for first in (0..blocks).step_by(2) {
        for (i, columns) in columns.chunks_exact_mut(inputs).enumerate() {
            odd |= pack_keys(&keys[blocks.min(first + i) * d * LANES..blocks.min(first + i + 1) * d * LANES], columns);
        }
        for (pair, rows) in rows.chunks_exact(2 * inputs).enumerate() {
            unit.begin();
            unit.add(two(rows), two(columns), inputs, None);
            let (at, left) = (pair * BOTH * stride + first * LANES, q.len() - pair * BOTH);
            match first + 2 <= blocks && left >= BOTH {
                true => unit.store_rows(&mut scores[at..], stride),
                false => {
                    unit.store(&mut sums);
                    for (r, to) in scores[at..].chunks_mut(stride).take(left.min(BOTH)).enumerate() {
                        for (i, sums) in sums[r / SIDE].iter().enumerate().take(blocks - first) {
                            to[i * LANES..][..LANES].copy_from_slice(&sums[r % SIDE]);
                        }
                    }
                }
            }
        }
    }
    odd & 0xffff == 0
}

/// One chunk. count: entries of the chunk that a row sees. False, and nothing done, if the unit cannot read the
/// numbers: they are no bf16, or no number at all, which times 0 is not 0.
#[inline(always)]
pub(super) fn mix<T: Real, S: CacheElement<T>>(
    p: &[T],
    stride: usize,
    count: impl Fn(usize) -> usize,
    values: &[S],
    outs: &mut [&mut [T]],
) -> bool {
    let d = outs[0].len();
    let (inputs, groups) = ((values.len() / d).div_ceil(BLOCK), d.div_ceil(BOTH) * 2);
    let mut packed = Scratch::<f32>::new((groups + 2) * inputs * PAIRS * SIDE);
    let (columns, rows) = bytemuck::cast_slice_mut::<_, Tile>(packed.get_mut()).split_at_mut(groups * inputs);
    for (group, columns) in columns.chunks_exact_mut(inputs).enumerate() {
        if !pack_values(values, d, group * SIDE, columns) {
            return false;
        }
    }
    let Some(unit) = Unit::take() else { return false };
    let mut sums = Sums::default();
    for (pair, outs) in outs.chunks_mut(BOTH).enumerate() {
        let (mut some, mut most) = ([&p[..0]; BOTH], 0);
        for row in 0..outs.len() {
            let seen = count(pair * BOTH + row);
            some[row] = &p[(pair * BOTH + row) * stride..][..seen];
            most = most.max(seen);
        }
        let inputs_here = most.div_ceil(BLOCK);
        let rows = &mut rows[..2 * inputs_here];
        pack_rows(&some, inputs_here, rows);
        for (both, columns) in columns.chunks_exact(2 * inputs).enumerate() {
            unit.begin();
            unit.add(two(rows), two(columns), inputs_here, None);
            unit.store(&mut sums);
            for (row, out) in outs.iter_mut().enumerate() {
                for (sums, first) in sums[row / SIDE].iter().zip([both * BOTH, both * BOTH + SIDE]) {
                    let out = &mut out[d.min(first)..d.min(first + SIDE)];
                    out.iter_mut().zip(&sums[row % SIDE]).for_each(|(o, &sum)| *o += T::of_f32(sum));
                }
            }
        }
    }
    true
}

/// Two groups whose tiles lie one after the other.
#[inline(always)]
fn two(tiles: &[Tile]) -> [Strip<'_>; 2] {
    let (first, second) = tiles.split_at(tiles.len() / 2);
    [Strip::packed(first), Strip::packed(second)]
}

/// Packs a block of 16 keys, [d_h, 16] or none, into tiles of [pairs, keys]. Returns the bits of all numbers, or-ed.
#[inline(always)]
fn pack_keys<T: Real, S: CacheElement<T>>(keys: &[S], tiles: &mut [Tile]) -> u32 {
    let (mut bits, keys) = ([0; SIDE], keys.as_chunks::<SIDE>().0);
    for (s, tile) in tiles.iter_mut().enumerate() {
        let pairs = tile.as_chunks_mut::<SIDE>().0;
        for j in 0..PAIRS {
            let first = s * BLOCK + 2 * j;
            pairs[j] = [0; SIDE];
            if first < keys.len() {
                let low = bits_of(&keys[first]);
                let high = if first + 1 < keys.len() { bits_of(&keys[first + 1]) } else { [0; SIDE] };
                join(low, high, &mut pairs[j], &mut bits);
            }
        }
    }
    all(&bits)
}

/// Packs 16 elements of up to 256 values, from element `first` on, into tiles of [pairs of entries, elements]; what
/// stands in elements beyond d means nothing. Returns whether every number is a finite bf16.
#[inline(always)]
fn pack_values<T: Real, S: CacheElement<T>>(values: &[S], d: usize, first: usize, tiles: &mut [Tile]) -> bool {
    if first >= d {
        tiles.fill([0; PAIRS * SIDE]);
        return true;
    }
    let (mut bits, mut exponents, len) = ([0; SIDE], [0; SIDE], values.len() / d);
    for (s, tile) in tiles.iter_mut().enumerate() {
        let pairs = tile.as_chunks_mut::<SIDE>().0;
        for j in 0..PAIRS {
            let mut both = [[0; SIDE]; 2];
            for i in 0..2 {
                let at = (s * BLOCK + 2 * j + i) * d + first;
                match values.get(at..).unwrap_or_default().first_chunk::<SIDE>() {
                    Some(value) => both[i] = bits_of(value),
                    None if at < len * d => {
                        for lane in 0..d - first {
                            both[i][lane] = values[at + lane].widen().to_f32().to_bits();
                        }
                    }
                    None => {}
                }
                for lane in 0..SIDE {
                    exponents[lane] = (both[i][lane] & 0x7fff_ffff).max(exponents[lane]);
                }
            }
            join(both[0], both[1], &mut pairs[j], &mut bits);
        }
    }
    let mut largest = 0;
    for lane in 0..SIDE {
        largest = exponents[lane].max(largest);
    }
    largest < 0x7f80_0000 && all(&bits) & 0xffff == 0
}

#[inline(always)]
fn bits_of<T: Real, S: CacheElement<T>>(from: &[S; SIDE]) -> [u32; SIDE] {
    let mut bits = [0; SIDE];
    for lane in 0..SIDE {
        bits[lane] = from[lane].widen().to_f32().to_bits();
    }
    bits
}

/// pair\[lane\] = the upper halves of two numbers.
#[inline(always)]
fn join(low: [u32; SIDE], high: [u32; SIDE], pair: &mut [u32; SIDE], bits: &mut [u32; SIDE]) {
    for lane in 0..SIDE {
        pair[lane] = low[lane] >> 16 | high[lane] & 0xffff_0000;
    }
    for lane in 0..SIDE {
        bits[lane] |= low[lane] | high[lane];
    }
}
