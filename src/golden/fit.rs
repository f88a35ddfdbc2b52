//! Fits a direction to errors. Rows that are rounded alike count as one draw. Spec: E10.10

use super::measure::Layout;

/// A fit needs at least this many groups of rows. Spec: E10.10
const GROUPS: f64 = 16.0;

/// Products of errors and a direction, and of the direction with itself: one number for each group of rows and each
/// column.
pub(super) struct Products {
    pub width: usize,
    along: Vec<f64>,
    size: Vec<f64>,
}

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

/// A direction fitted to errors, with one number for each group of rows.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub a: f64,
    pub size: f64,
    /// What each group adds to the fit, and the rest of it after the fit.
    along: Vec<f64>,
    rest: Vec<f64>,
}

impl Fit {
    /// None if there are too few groups.
    fn new(along: Vec<f64>, size: Vec<f64>) -> Option<Fit> {
        let (total, squares) = (size.iter().sum::<f64>(), size.iter().map(|n| n * n).sum::<f64>());
        if total <= 0.0 || total * total < GROUPS * squares {
            return None;
        }
        let a = along.iter().sum::<f64>() / total;
        let rest = along.iter().zip(&size).map(|(s, n)| s - a * n).collect();
        Some(Fit { a, size: total, along, rest })
    }

    /// The standard error of a.
    pub fn ruler(&self) -> f64 {
        self.rest.iter().map(|r| r * r).sum::<f64>().sqrt() / self.size
    }
}

impl Products {
    /// The products of a stage's rows, summed over each group. error, direction: row-major. Spec: E10.10
    pub fn new(layout: Layout, groups: &[usize], error: &[f64], direction: &[f64]) -> Products {
        let (width, count) = (layout.lead * layout.width, groups.iter().max().map_or(0, |g| g + 1));
        let mut sums = Products { width, along: vec![0.0; count * width], size: vec![0.0; count * width] };
        let rows = error.chunks_exact(layout.width).zip(direction.chunks_exact(layout.width));
        for (row, (error, direction)) in rows.enumerate() {
            let at = groups[row % layout.rows] * width + row / layout.rows * layout.width;
            let along = sums.along[at..at + layout.width].iter_mut().zip(&mut sums.size[at..at + layout.width]);
            for ((along, size), (e, d)) in along.zip(error.iter().zip(direction)) {
                *along += e * d;
                *size += d * d;
            }
        }
        sums
    }

    /// The fit over all columns, each in units of its scale.
    pub fn all(&self, scale: &[f64]) -> Option<Fit> {
        let group = |row: &[f64]| row.iter().zip(scale).map(|(v, s)| v / (s * s)).sum::<f64>();
        let of = |sums: &[f64]| sums.chunks(self.width).map(group).collect();
        Fit::new(of(&self.along), of(&self.size))
    }

    /// The fit of one column.
    pub fn column(&self, c: usize, scale: f64) -> Option<Fit> {
        let of = |sums: &[f64]| sums.iter().skip(c).step_by(self.width).map(|v| v / (scale * scale)).collect();
        Fit::new(of(&self.along), of(&self.size))
    }
}

/// √ of Hotelling's T² of several fits: their common distance from zero, in standard errors.
pub(super) fn together(fits: &[Fit]) -> f64 {
    let k = fits.len();
    let total: Vec<f64> = fits.iter().map(|f| f.along.iter().sum()).collect();
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
    y.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The differences got − from.
pub(super) fn errors(got: &[f64], from: &[f64]) -> Vec<f64> {
    got.iter().zip(from).map(|(g, f)| g - f).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e10_10_worked_example() {
        let (s, n) = ([3.0, 1.0, 2.0, 2.0], [1.0; 4]);
        assert!(Fit::new(s.to_vec(), n.to_vec()).is_none(), "four groups are too few to speak");
        // a = ΣS/ΣN = 8/4; s = √(1 + 1)/4. Sixteen groups of the same make s half as large.
        let fit = Fit::new(s.repeat(4), n.repeat(4)).unwrap();
        assert_eq!((fit.a, fit.ruler()), (2.0, 2f64.sqrt() / 8.0));
        assert!((fit.a / fit.ruler() - 11.3).abs() < 0.05);
        assert!((2.0 / (2f64.sqrt() / 4.0) - 5.7f64).abs() < 0.05);
    }
}
