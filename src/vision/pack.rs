//! Packs projected features into prompt rows. The family's geometry determines the packing.

use crate::input::{PackedRow, Packing};
use crate::num::Real;
use ndarray::{Array2, ArrayView3};

/// The visual rows of one image, in prompt order.
///
/// projected: [tiles, tokens, d], newline: \[d\] → [rows of the packing, d]. The caller stores the result (R5.6).
/// Spec: E5.6, C5.6a
pub fn pack<T: Real>(projected: ArrayView3<'_, T>, packing: &Packing, newline: &[f32]) -> Array2<T> {
    let mut rows = Array2::from_elem((packing.rows.len(), newline.len()), T::ZERO);
    for (mut row, from) in rows.outer_iter_mut().zip(&packing.rows) {
        match from {
            PackedRow::Newline => row.iter_mut().zip(newline).for_each(|(r, &v)| *r = T::of_f32(v)),
            PackedRow::Token { tile, token } => row.assign(&projected.slice(ndarray::s![*tile, *token, ..])),
            PackedRow::Blend(parts) => {
                for &(tile, token, weight) in parts {
                    let weight = T::of(weight);
                    row.zip_mut_with(&projected.slice(ndarray::s![tile, token, ..]), |r, &v| *r += weight * v);
                }
            }
        }
    }
    rows
}
