//! Groups of similar rows. Patches of a white page are rounded alike, so their errors count as one draw, not many.

use super::measure::Layout;

/// Two rows are alike if they differ by at most this many roundings.
const ALIKE: f64 = 2.0;

/// Returns the group of each row; a row's heads together count as one row. scale: the usual error of each column.
/// Spec: E10.10
pub(super) fn groups(layout: Layout, truth: &[f64], scale: &[f64]) -> Vec<usize> {
    let Layout { lead, rows, width } = layout;
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
