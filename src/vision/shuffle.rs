//! Pixel shuffle, which concatenates the patches of a square. Source: OpenGVLab's and transformers' `pixel_shuffle`.

use crate::num::Real;
use ndarray::{Array2, Array3, ArrayView3, s};

/// Turns each square of m × m patches into one row and drops the class token.
///
/// features: [tiles, 1 + side², d_v] → [tiles, (side/m)², m² · d_v]. If `transposed`, the rows of the result follow the
/// squares of a tile column by column. Spec: E5.14
pub fn shuffled<T: Real>(features: ArrayView3<'_, T>, m: usize, transposed: bool) -> Array3<T> {
    let (tiles, tokens, d) = features.dim();
    let side = (tokens - 1).isqrt();
    let along = side / m;
    let mut rows = Array3::from_elem((tiles, along * along, m * m * d), T::ZERO);
    for row in 0..along * along {
        let (y, x) = if transposed { (row % along, row / along) } else { (row / along, row % along) };
        for part in 0..m * m {
            let token = 1 + (y * m + part / m) * side + x * m + part % m;
            rows.slice_mut(s![.., row, part * d..(part + 1) * d]).assign(&features.slice(s![.., token, ..]));
        }
    }
    rows
}

/// The patches of the squares of each tile, one square after the other, as [`shuffled`] joins them; nothing of nothing.
///
/// rows: [tiles · (1 + side²), columns] → [tiles · side², columns].
pub fn shuffled_rows<T: Real>(rows: Array2<T>, tiles: usize, m: usize, transposed: bool) -> Array2<T> {
    if rows.is_empty() {
        return rows;
    }
    let ((all, columns), whole) = (rows.dim(), "E5.14: whole tiles");
    let tokens = rows.into_shape_with_order((tiles, all / tiles, columns)).unwrap_or_else(|_| unreachable!("{whole}"));
    let squares = shuffled(tokens.view(), m, transposed);
    squares.into_shape_with_order((all - tiles, columns)).unwrap_or_else(|_| unreachable!("{whole}"))
}
