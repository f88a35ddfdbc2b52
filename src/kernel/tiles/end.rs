//! What happens to sums at their end, on the unit: bias and store.

use super::tile::SIDE;
use crate::kernel::matrix::End;
use crate::num::Grid;
use std::ops::Range;

/// Adds the bias to sums, [rows, 16], and stores those of `outputs`, at most 16, in their places of the rows y.
#[inline(always)]
pub(super) fn put(sums: &[[f32; SIDE]], (b, grid): End<'_>, outputs: &Range<usize>, y: &mut [&mut [f32]]) {
    let mut own = [0.0; SIDE];
    if let Some(b) = b {
        own[..outputs.len()].copy_from_slice(&b[outputs.clone()]);
    }
    match (b.is_some(), grid) {
        (true, Grid::Native) => each(sums, outputs, y, |i, sum| sum + own[i]),
        (true, Grid::Bf16) => each(sums, outputs, y, |i, sum| Grid::Bf16.round(sum + own[i])),
        (true, Grid::F16) => each(sums, outputs, y, |i, sum| Grid::F16.round(sum + own[i])),
        (false, Grid::Native) => each(sums, outputs, y, |_, sum| sum),
        (false, Grid::Bf16) => each(sums, outputs, y, |_, sum| Grid::Bf16.round(sum)),
        (false, Grid::F16) => each(sums, outputs, y, |_, sum| Grid::F16.round(sum)),
    }
}

/// y\[output i\] = number(i, sum i) of each row.
#[inline(always)]
fn each(sums: &[[f32; SIDE]], outputs: &Range<usize>, y: &mut [&mut [f32]], number: impl Fn(usize, f32) -> f32) {
    for (sums, y) in sums.iter().zip(y) {
        let y = &mut y[outputs.clone()];
        // Sixteen numbers, a length that the compiler knows, are one register.
        match y.first_chunk_mut::<SIDE>() {
            Some(y) => y.iter_mut().zip(sums).enumerate().for_each(|(i, (y, &sum))| *y = number(i, sum)),
            None => y.iter_mut().zip(sums).enumerate().for_each(|(i, (y, &sum))| *y = number(i, sum)),
        }
    }
}
