//! Rows of numbers as the matrix unit reads them.

#![allow(clippy::needless_range_loop)] // loops over lanes read as the equations do, by index

use super::tile::{SIDE, Tile};
use crate::num::{BLOCK, Real};

/// Rows or columns that are summed together: two groups.
pub(super) const BOTH: usize = 2 * SIDE;

/// Packs 32 rows into tiles of [rows, inputs]: [2 groups, inputs]; numbers after the end of a row are 0. Returns the
/// bits of all numbers, or-ed: the lower half is 0 if every number is a bf16.
#[inline(always)]
pub(super) fn pack_rows<T: Real>(rows: &[&[T]; BOTH], inputs: usize, tiles: &mut [Tile]) -> u32 {
    let mut bits = [0; BLOCK];
    for at in 0..BOTH {
        let (row, tiles) = (rows[at], &mut tiles[at / SIDE * inputs..][..inputs]);
        for s in 0..inputs {
            let to = &mut bytemuck::cast_slice_mut::<_, u16>(&mut tiles[s])[at % SIDE * BLOCK..][..BLOCK];
            let mut some = [T::ZERO; BLOCK];
            let left = row.len().saturating_sub(s * BLOCK);
            let from = match left >= BLOCK {
                true => &row[s * BLOCK..][..BLOCK],
                false => {
                    for i in 0..left {
                        some[i] = row[s * BLOCK + i];
                    }
                    &some[..]
                }
            };
            for i in 0..BLOCK {
                let from = from[i].to_f32().to_bits();
                bits[i] |= from;
                to[i] = (from >> 16) as u16;
            }
        }
    }
    all(&bits)
}

/// The bits of all lanes, or-ed.
#[inline(always)]
pub(super) fn all<const N: usize>(bits: &[u32; N]) -> u32 {
    let mut all = 0;
    for i in 0..N {
        all |= bits[i];
    }
    all
}
