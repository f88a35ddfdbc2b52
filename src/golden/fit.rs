//! Fits a direction to errors. Numbers that are rounded alike count as one draw: rows that are alike, and numbers of one
//! column that a store rounds to the same value. Spec: E10.10

use super::alike::Cells;
use super::measure::Layout;
use crate::num::{sum, sum_of};

/// A fit needs at least this many groups. Spec: E10.10
const GROUPS: f64 = 16.0;
/// Cells show a larger standard error than groups of rows only from this factor on: two estimates of one number scatter.
/// Spec: E10.10
const APART: f64 = 1.25;

/// Errors along a direction: their size, and the standard error of that size.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drift {
    /// The direction, in words.
    pub along: String,
    /// The coefficient of the direction in the errors.
    pub error: f64,
    /// Its standard error.
    pub ruler: f64,
}

impl Drift {
    pub fn ratio(&self) -> f64 {
        self.error / self.ruler
    }
}

/// The two ways in which the numbers of a stage are grouped.
pub(super) struct Groups {
    /// The group of each row: rows that are alike.
    pub rows: Vec<usize>,
    /// Numbers of one column that a store rounds to the same value.
    pub cells: Cells,
}

/// Products of errors and a direction, and of the direction with itself: one number for each group of rows and each
/// column, and one for each cell.
pub(super) struct Products<'a> {
    pub width: usize,
    rows: [Vec<f64>; 2],
    cells: [Vec<f64>; 2],
    groups: &'a Groups,
}

/// A direction fitted to errors.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub a: f64,
    pub size: f64,
    /// The sum of the products with the errors.
    along: f64,
    /// What is left of each group of rows after the fit; larger by a factor if more is left of the cells.
    rest: Vec<f64>,
    /// How many draws of one size would scatter as much.
    pub draws: f64,
}

impl Fit {
    /// None if there are too few groups. Each argument has the products with the errors and with the direction.
    fn new(rows: [Vec<f64>; 2], cells: [Vec<f64>; 2]) -> Option<Fit> {
        let draws = |size: &[f64]| sum(size).powi(2) / squares(size);
        let (along, size) = (sum(&rows[0]), sum(&rows[1]));
        if size <= 0.0 {
            return None;
        }
        let draws = draws(&rows[1]).min(draws(&cells[1]));
        if draws < GROUPS {
            return None;
        }
        let a = along / size;
        let rest = |[along, size]: &[Vec<f64>; 2]| along.iter().zip(size).map(|(s, n)| s - a * n).collect::<Vec<f64>>();
        let (mut rest, of_cells) = (rest(&rows), norm(&rest(&cells)));
        let factor = of_cells / norm(&rest);
        if factor > APART && factor.is_finite() {
            rest.iter_mut().for_each(|r| *r *= factor);
        }
        Some(Fit { a, size, along, rest, draws })
    }

    /// The standard error of a: by groups of rows, or by cells if that is clearly larger.
    fn error(&self) -> f64 {
        norm(&self.rest) / self.size
    }

    /// The coefficient over the number of normal deviates that is as unlikely as the coefficient.
    pub fn ruler(&self) -> f64 {
        self.a.abs() / deviates((self.a / self.error()).powi(2), 1, self.draws)
    }
}

/// The square root of the χ² that is as unlikely as T² of k directions. The scatter of T² is estimated from this many
/// draws, and few draws may underestimate it. Spec: E10.10
fn deviates(t2: f64, k: usize, draws: f64) -> f64 {
    let free = draws - 1.0;
    ((free - k as f64 / 2.0).max(0.0) * (t2 / free).ln_1p()).sqrt()
}

fn squares(values: &[f64]) -> f64 {
    sum_of(values, |v| v * v)
}

fn norm(values: &[f64]) -> f64 {
    squares(values).sqrt()
}

impl<'a> Products<'a> {
    /// The products of a stage, summed over each group. error, direction: row-major. Spec: E10.10
    pub fn new(layout: Layout, groups: &'a Groups, error: &[f64], direction: &[f64]) -> Products<'a> {
        let (width, count) = (layout.lead * layout.width, groups.rows.iter().max().map_or(0, |g| g + 1));
        let of = |count: usize| [vec![0.0; count], vec![0.0; count]];
        let mut sums = Products {
            width,
            rows: of(count * width),
            cells: of(groups.cells.first.last().copied().unwrap_or(0)),
            groups,
        };
        let ([along, size], [cell_along, cell_size]) = (&mut sums.rows, &mut sums.cells);
        let each = layout.width.max(1);
        let rows = error.chunks_exact(each).zip(direction.chunks_exact(each)).zip(groups.cells.of.chunks_exact(each));
        for (row, ((error, direction), cells)) in rows.enumerate() {
            let at = groups.rows[row % layout.rows] * width + row / layout.rows * layout.width;
            let (along, size) = (&mut along[at..at + each], &mut size[at..at + each]);
            for (c, ((e, d), &cell)) in error.iter().zip(direction).zip(cells).enumerate() {
                along[c] += e * d;
                size[c] += d * d;
                cell_along[cell as usize] += e * d;
                cell_size[cell as usize] += d * d;
            }
        }
        sums
    }

    /// The fit over all columns, each in units of its scale.
    pub fn all(&self, scale: &[f64]) -> Option<Fit> {
        let mut scaled = vec![0.0; self.width];
        let mut group = |row: &[f64]| {
            scaled.iter_mut().zip(row).zip(scale).for_each(|((to, v), s)| *to = v / (s * s));
            sum(&scaled)
        };
        let rows = |sums: &Vec<f64>| sums.chunks(self.width).map(&mut group).collect();
        let cells = |sums: &Vec<f64>| {
            let mut all = Vec::with_capacity(sums.len());
            for (column, s) in self.groups.cells.first.windows(2).zip(scale) {
                all.extend(sums[column[0]..column[1]].iter().map(|v| v / (s * s)));
            }
            all
        };
        Fit::new(self.rows.each_ref().map(rows), self.cells.each_ref().map(cells))
    }

    /// The coefficient of each column, and the product of the direction with itself: what [`column`](Self::column) finds,
    /// for all columns at once. scale: of each column.
    pub fn columns(&self, scale: &[f64]) -> Vec<(f64, f64)> {
        let sums = |rows: &[f64]| {
            let mut sums = vec![-0.0; self.width];
            for row in rows.chunks_exact(self.width) {
                sums.iter_mut().zip(row).zip(scale).for_each(|((sum, v), s)| *sum += v / (s * s));
            }
            sums
        };
        let [along, size] = self.rows.each_ref().map(|rows| sums(rows));
        along.into_iter().zip(size).map(|(along, size)| (along / size, size)).collect()
    }

    /// The fit of one column.
    pub fn column(&self, c: usize, scale: f64) -> Option<Fit> {
        let unit = |v: &f64| v / (scale * scale);
        let rows = |sums: &Vec<f64>| sums.iter().skip(c).step_by(self.width).map(unit).collect();
        let cells = |sums: &Vec<f64>| {
            sums[self.groups.cells.first[c]..self.groups.cells.first[c + 1]].iter().map(unit).collect()
        };
        Fit::new(self.rows.each_ref().map(rows), self.cells.each_ref().map(cells))
    }
}

/// Hotelling's T² of several fits, their common distance from zero, as the square root of a χ² that is as unlikely.
pub(super) fn together(fits: &[Fit]) -> f64 {
    let k = fits.len();
    let total: Vec<f64> = fits.iter().map(|f| f.along).collect();
    let product = |a: &Fit, b: &Fit| a.rest.iter().zip(&b.rest).map(|(x, y)| x * y).sum::<f64>();
    let mut m: Vec<Vec<f64>> = fits.iter().map(|a| fits.iter().map(|b| product(a, b)).collect()).collect();
    // Cholesky; a direction that lies in the span of earlier directions adds nothing.
    let mut y = vec![0.0; k];
    for i in 0..k {
        let own = m[i][i];
        for j in 0..=i {
            let sum = m[i][j] - (0..j).map(|p| m[i][p] * m[j][p]).sum::<f64>();
            m[i][j] = match i == j {
                true => {
                    if sum > 1e-6 * own {
                        sum.sqrt()
                    } else {
                        f64::INFINITY
                    }
                }
                false => sum / m[j][j],
            };
        }
        y[i] = (total[i] - (0..i).map(|p| m[i][p] * y[p]).sum::<f64>()) / m[i][i];
    }
    let draws = fits.iter().map(|fit| fit.draws).fold(f64::INFINITY, f64::min);
    deviates(y.iter().map(|v| v * v).sum::<f64>(), k, draws)
}

/// Numbers without the mean of their column: without what all rows share.
pub(super) fn without_means(layout: Layout, mut values: Vec<f64>) -> Vec<f64> {
    let Layout { lead, rows, width, .. } = layout;
    for lead in values.chunks_exact_mut((rows * width).max(1)).take(lead) {
        let mut means = vec![0.0; width];
        lead.chunks_exact(width).for_each(|row| means.iter_mut().zip(row).for_each(|(m, v)| *m += v / rows as f64));
        lead.chunks_exact_mut(width).for_each(|row| row.iter_mut().zip(&means).for_each(|(v, m)| *v -= m));
    }
    values
}

/// The differences got − from.
pub(super) fn errors(got: &[f64], from: &[f64]) -> Vec<f64> {
    got.iter().zip(from).map(|(g, f)| g - f).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::Grid;

    #[test]
    fn e10_10_worked_example() {
        let fit = |s: Vec<f64>, n: Vec<f64>| Fit::new([s.clone(), n.clone()], [s, n]);
        let (s, n) = ([3.0, 1.0, 2.0, 2.0], [1.0; 4]);
        assert!(fit(s.to_vec(), n.to_vec()).is_none(), "four groups are too few to speak");
        // a = ΣS/ΣN = 8/4; s = √(1 + 1)/4. Sixteen groups of the same make s half as large.
        let fit = fit(s.repeat(4), n.repeat(4)).unwrap();
        assert_eq!((fit.a, fit.error()), (2.0, 2f64.sqrt() / 8.0));
        assert!((fit.a / fit.error() - 11.3).abs() < 0.05);
        assert!((fit.a / fit.ruler() - 5.72).abs() < 0.01, "11.3 of 16 draws is as unlikely as 5.72 normal deviates");
        assert!((2.0 / (2f64.sqrt() / 4.0) - 5.7f64).abs() < 0.05);
    }

    #[test]
    fn e10_10_numbers_that_a_store_rounds_alike_are_one_draw() {
        // 64 rows, one column: all of them near 4.125, where bf16 has the next number at 4.15625.
        let layout = Layout { lead: 1, rows: 64, width: 1, shared: false };
        let groups = |truth: &[f64]| Groups { rows: (0..64).collect(), cells: Cells::new(layout, truth, Grid::Bf16) };
        let truth: Vec<f64> = (0..64).map(|i| 4.125 + f64::from(i) * 1e-4).collect();
        let near = groups(&truth);
        let products = Products::new(layout, &near, &[0.03; 64], &truth);
        assert!(products.column(0, 1.0).is_none(), "one cell is too few to speak");
        let spread: Vec<f64> = (0..64).map(|i| 4.0 + f64::from(i) / 16.0).collect();
        let apart = groups(&spread);
        assert!(Products::new(layout, &apart, &[0.03; 64], &spread).column(0, 1.0).is_some());
    }
}
