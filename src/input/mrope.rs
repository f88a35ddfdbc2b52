//! M-RoPE: the positions of prompt rows in time, height and width. Source: transformers 5.17 `get_rope_index`.
//! Spec: E4.14

use super::positions::Positions;

/// Positions of a prompt whose placeholders are expanded: ids \[n\] → 3 × \[n\].
///
/// grids: time, height and width of each image in rows, in prompt order. Spec: E4.14, C4.16a
pub fn positions(ids: &[u32], image_token: u32, grids: &[[usize; 3]]) -> Positions {
    let mut axes: [Vec<i64>; 3] = Default::default();
    let (mut next, mut row) = (0, 0);
    let mut grids = grids.iter().filter(|grid| grid.iter().all(|&side| side > 0));
    while row < ids.len() {
        let grid = if ids[row] == image_token { grids.next() } else { None };
        let Some(&[t, h, w]) = grid else {
            axes.iter_mut().for_each(|axis| axis.push(next));
            (next, row) = (next + 1, row + 1);
            continue;
        };
        let rows = (t * h * w).min(ids.len() - row);
        for i in 0..rows {
            for (axis, at) in axes.iter_mut().zip([i / (h * w), i / w % h, i % w]) {
                axis.push(next + at as i64);
            }
        }
        next += h.max(w) as i64;
        row += rows;
    }
    Positions::Mrope(axes)
}
