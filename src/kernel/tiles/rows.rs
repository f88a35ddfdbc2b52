//! Rows of numbers as the matrix unit reads them.

#![allow(clippy::needless_range_loop)] // loops over lanes read as the equations do, by index

use super::tile::{SIDE, Tile};
use crate::num::Real;
use ndarray::{ArrayViewMut1, ArrayViewMut2};

/// Rows or columns that are summed together: two groups.
pub(super) const BOTH: usize = 2 * SIDE;

/// A tile by its rows, each two times 16 numbers.
type Halves = [[[u16; SIDE]; 2]; SIDE];

/// Packs 32 rows into tiles of [rows, inputs]: [2 groups, inputs]; numbers after the end of a row are 0. Returns the
/// bits of all numbers, or-ed: the lower half is 0 if every number is a bf16.
#[inline(always)]
pub(super) fn pack_rows<T: Real>(rows: &[&[T]; BOTH], inputs: usize, tiles: &mut [Tile]) -> u32 {
    let mut bits = [0; SIDE];
    for (at, row) in rows.iter().enumerate() {
        let (whole, rest) = row.as_chunks::<SIDE>();
        let mut last = [T::ZERO; SIDE];
        last[..rest.len()].copy_from_slice(rest);
        for (s, tile) in tiles[at / SIDE * inputs..][..inputs].iter_mut().enumerate() {
            let tile: &mut Halves = bytemuck::cast_mut(tile);
            for (half, to) in tile[at % SIDE].iter_mut().enumerate() {
                match 2 * s + half {
                    i if i < whole.len() => narrow(&whole[i], to, &mut bits),
                    i if i == whole.len() => narrow(&last, to, &mut bits),
                    _ => *to = [0; SIDE],
                }
            }
        }
    }
    all(&bits)
}

/// Writes the upper halves of 16 numbers; or-s all their bits to those of others.
#[inline(always)]
fn narrow<T: Real>(from: &[T; SIDE], to: &mut [u16; SIDE], bits: &mut [u32; SIDE]) {
    for i in 0..SIDE {
        bits[i] |= from[i].to_f32().to_bits();
    }
    for i in 0..SIDE {
        to[i] = (from[i].to_f32().to_bits() >> 16) as u16;
    }
}

/// The rows of a matrix.
pub(super) fn rows_of<'y>(y: &'y mut ArrayViewMut2<'_, f32>) -> Vec<&'y mut [f32]> {
    let row = |y: ArrayViewMut1<'y, f32>| y.into_slice().unwrap_or_else(|| unreachable!("E3.16: y is row-major"));
    y.outer_iter_mut().map(row).collect()
}

/// The bits of all lanes, or-ed.
#[inline(always)]
pub(super) fn all(bits: &[u32; SIDE]) -> u32 {
    let mut all = 0;
    for i in 0..SIDE {
        all |= bits[i];
    }
    all
}
