//! Numbers that are rounded alike. Patches of a white page are, and so are numbers of one column that a store rounds to the
//! same value: their errors count as one draw, not many.

use super::measure::Layout;
use crate::num::Grid;
use rayon::prelude::*;

/// The cells of a stage: numbers of one column that a store rounds to the same value. Spec: E10.10
pub(super) struct Cells {
    /// The cell of each number, row-major.
    pub of: Vec<u32>,
    /// Where the cells of each column begin, and the number of all cells: [lead · width + 1].
    pub first: Vec<usize>,
}

impl Cells {
    /// truth: row-major in the layout.
    pub fn new(layout: Layout, truth: &[f64], grid: Grid) -> Cells {
        let Layout { lead, rows, width, .. } = layout;
        let cells = |c: usize| {
            let (mut of, mut count) = (vec![0; rows], 0);
            each_cell(layout, truth, grid, c, |cell| {
                cell.iter().for_each(|&both| of[both as u32 as usize] = count);
                count += 1;
            });
            (of, count as usize)
        };
        let columns: Vec<(Vec<u32>, usize)> = (0..lead * width).into_par_iter().map(cells).collect();
        let mut first = vec![0];
        columns.iter().for_each(|(_, count)| first.push(first[first.len() - 1] + count));
        let mut of = vec![0; truth.len()];
        of.par_chunks_exact_mut(width.max(1)).enumerate().for_each(|(i, of)| {
            let (from, row) = (i / rows * width, i % rows);
            of.iter_mut().zip(&columns[from..]).zip(&first[from..]).for_each(|((of, c), first)| {
                *of = *first as u32 + c.0[row];
            });
        });
        Cells { of, first }
    }
}

/// For each column, Σn² of the sizes n of its cells.
pub(super) fn squares(layout: Layout, truth: &[f64], grid: Grid) -> Vec<f64> {
    let of = |c: usize| {
        let mut sum = 0;
        each_cell(layout, truth, grid, c, |cell| sum += cell.len() * cell.len());
        sum as f64
    };
    (0..layout.lead * layout.width).into_par_iter().map(of).collect()
}

/// Calls `see` with each cell of a column, in the order of values: the row is in the lower 32 bits.
fn each_cell(layout: Layout, truth: &[f64], grid: Grid, c: usize, mut see: impl FnMut(&[u128])) {
    let Layout { rows, width, .. } = layout;
    let at = |r: usize| (c / width * rows + r) * width + c % width;
    // −0 and 0 are equal; a NaN equals none.
    let key = |v: f64| ordered(if v == 0.0 { 0.0 } else { v });
    // The value above the row: one number is faster to sort than two.
    let mut order: Vec<u128> = (0..rows).map(|r| u128::from(key(grid.round(truth[at(r)]))) << 32 | r as u128).collect();
    order.sort_unstable();
    let number = ordered(f64::NEG_INFINITY)..=ordered(f64::INFINITY);
    let value = |both: &u128| (both >> 32) as u64;
    order.chunk_by(|a, b| value(a) == value(b) && number.contains(&value(a))).for_each(&mut see);
}

/// Whole numbers in the order of `f64::total_cmp`.
fn ordered(v: f64) -> u64 {
    let bits = v.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Two rows are alike if they differ by at most this many roundings.
const ALIKE: f64 = 2.0;

/// Returns the group of each row; a row's heads together count as one row. scale: the usual error of each column.
/// Spec: E10.10
pub(super) fn groups(layout: Layout, truth: &[f64], scale: &[f64]) -> Vec<usize> {
    let Layout { lead, rows, width, .. } = layout;
    let count = lead * width;
    let scaled = |r: usize| (0..count).map(move |c| truth[(c / width * rows + r) * width + c % width] / scale[c]);
    let all: Vec<f64> = (0..rows).into_par_iter().flat_map_iter(scaled).collect();
    let row = |r: usize| &all[r * count..(r + 1) * count];
    let reach = ALIKE * (count as f64).sqrt();
    // If two rows are alike, their sums under a fixed pattern of signs are alike too: only rows with near sums are
    // compared.
    let sign = |c: usize| if c.wrapping_mul(0x9E37_79B9) >> 16 & 1 == 0 { 1.0 } else { -1.0 };
    let signs: Vec<f64> = (0..count).map(sign).collect();
    let mark = |r: usize| row(r).iter().zip(&signs).map(|(v, sign)| sign * v).sum::<f64>() / (count as f64).sqrt();
    let mut order: Vec<(f64, usize)> = (0..rows).into_par_iter().map(|r| (mark(r), r)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut group, mut found) = (vec![usize::MAX; rows], 0);
    for (i, &(m, r)) in order.iter().enumerate() {
        if group[r] != usize::MAX {
            continue;
        }
        group[r] = found;
        for &(_, q) in order[i + 1..].iter().take_while(|o| o.0 - m <= reach) {
            if group[q] == usize::MAX && near(row(r), row(q), reach) {
                group[q] = found;
            }
        }
        found += 1;
    }
    group
}

/// Whether the distance of two rows is at most `reach`. The sum of squares only grows, so that most pairs end early.
fn near(a: &[f64], b: &[f64], reach: f64) -> bool {
    let mut sum = 0.0f64;
    for (a, b) in a.chunks(32).zip(b.chunks(32)) {
        a.iter().zip(b).for_each(|(a, b)| sum += (a - b).powi(2));
        if sum.sqrt() > reach {
            return false;
        }
    }
    sum.sqrt() <= reach
}
