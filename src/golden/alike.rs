//! Rows that are alike: patches of a white page are rounded alike, and their errors are one draw, not many.

use super::measure::Layout;

/// Rows are alike where they differ by no more than so many roundings.
const ALIKE: f64 = 2.0;

/// The group of each row; rows of several heads are one row. scale: what numbers are off by, a column. Spec: E10.10
pub(super) fn groups(layout: Layout, truth: &[f64], scale: &[f64]) -> Vec<usize> {
    let Layout { lead, rows, width } = layout;
    let count = lead * width;
    let row = |r: usize| (0..count).map(move |c| truth[(c / width * rows + r) * width + c % width] / scale[c]);
    let reach = ALIKE * (count as f64).sqrt();
    // Rows that are alike have sums of some fixed signs that are alike: only such rows are compared.
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
