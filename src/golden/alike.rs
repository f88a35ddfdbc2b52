//! Numbers that are rounded alike. Patches of a white page are, and so are numbers of one column that a store rounds to the
//! same value: their errors count as one draw, not many.

use super::measure::Layout;
use crate::num::Grid;

/// The cells of a stage: numbers of one column that a store rounds to the same value. Spec: E10.10
pub(super) struct Cells {
    /// The cell of each number, row-major.
    pub of: Vec<u32>,
    /// Where the cells of each column begin, and the number of all cells: [lead · width + 1].
    pub first: Vec<usize>,
    sizes: Vec<usize>,
}

impl Cells {
    /// truth: row-major in the layout.
    pub fn new(layout: Layout, truth: &[f64], grid: Grid) -> Cells {
        let Layout { lead, rows, width, .. } = layout;
        let mut cells = Cells { of: vec![0; truth.len()], first: vec![0], sizes: vec![] };
        let mut order: Vec<(f64, usize)> = Vec::with_capacity(rows);
        for c in 0..lead * width {
            let at = |r: usize| (c / width * rows + r) * width + c % width;
            order.clear();
            order.extend((0..rows).map(|r| (grid.round(truth[at(r)]), at(r))));
            order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            for (k, &(value, at)) in order.iter().enumerate() {
                if k == 0 || value != order[k - 1].0 {
                    cells.sizes.push(0);
                }
                let cell = cells.sizes.len() - 1;
                cells.sizes[cell] += 1;
                cells.of[at] = cell as u32;
            }
            cells.first.push(cells.sizes.len());
        }
        cells
    }

    /// How many numbers each cell of a column has.
    pub fn sizes(&self, column: usize) -> impl Iterator<Item = usize> {
        self.sizes[self.first[column]..self.first[column + 1]].iter().copied()
    }
}

/// Two rows are alike if they differ by at most this many roundings.
const ALIKE: f64 = 2.0;

/// Returns the group of each row; a row's heads together count as one row. scale: the usual error of each column.
/// Spec: E10.10
pub(super) fn groups(layout: Layout, truth: &[f64], scale: &[f64]) -> Vec<usize> {
    let Layout { lead, rows, width, .. } = layout;
    let count = lead * width;
    let row = |r: usize| (0..count).map(move |c| truth[(c / width * rows + r) * width + c % width] / scale[c]);
    let reach = ALIKE * (count as f64).sqrt();
    // If two rows are alike, their sums under a fixed pattern of signs are alike too: only rows with near sums are
    // compared.
    let sign = |c: usize| if c.wrapping_mul(0x9E37_79B9) >> 16 & 1 == 0 { 1.0 } else { -1.0 };
    let mark = |r: usize| row(r).enumerate().map(|(c, v)| sign(c) * v).sum::<f64>() / (count as f64).sqrt();
    let mut order: Vec<(f64, usize)> = (0..rows).map(|r| (mark(r), r)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut group, mut found) = (vec![usize::MAX; rows], 0);
    for (i, &(m, r)) in order.iter().enumerate() {
        if group[r] != usize::MAX {
            continue;
        }
        group[r] = found;
        for &(_, q) in order[i + 1..].iter().take_while(|o| o.0 - m <= reach) {
            let apart = || row(r).zip(row(q)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            if group[q] == usize::MAX && apart() <= reach {
                group[q] = found;
            }
        }
        found += 1;
    }
    group
}
