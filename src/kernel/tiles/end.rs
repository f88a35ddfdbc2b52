//! What happens to sums at their end, on the unit: bias and store.

use super::tile::SIDE;
use crate::kernel::matrix::End;
use std::ops::Range;

/// Adds the bias to the sums of up to 16 outputs, and stores them in their places of a row y.
#[inline(always)]
pub(super) fn put(mut sums: [f32; SIDE], (b, grid): End<'_>, outputs: &Range<usize>, y: &mut [f32]) {
    if let Some(b) = b {
        sums.iter_mut().zip(&b[outputs.clone()]).for_each(|(sum, b)| *sum += b);
    }
    grid.round_all(&mut sums);
    let y = &mut y[outputs.clone()];
    match y.first_chunk_mut::<SIDE>() {
        Some(y) => *y = sums,
        None => y.copy_from_slice(&sums[..y.len()]),
    }
}
