//! The queries that a prompt lets us expect: the mean and the covariance of each head's queries before rotary, turned to
//! the positions that follow the prompt. Not here: the score that reads them (expected.rs).

use crate::kernel::simd::vectorize;
use crate::num::{Grid, LANES, Real};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3};
use rayon::prelude::*;

/// The first rows of a prompt: their queries do not count, and their entries always stay. Spec: E9.37, E9.38
pub const SINKS: usize = 4;

/// Rows that are added while a part of the sums is in registers.
const AT_ONCE: usize = 32;

/// The mean and the covariance of the queries that are expected after a prompt. Spec: E9.37
#[derive(Debug, Clone, PartialEq)]
pub struct Future<T> {
    /// μ′: [H, d_h].
    pub mean: Array2<T>,
    /// Σ′: [H, d_h, d_h].
    pub covariance: Array3<T>,
}

/// The sums from which mean and covariance of a layer's queries follow, row by row. Spec: E9.37, C9.37a
///
/// ```
/// use aircache::{num::Grid, policy::Moments};
/// use ndarray::Array3;
/// // One head of size 2: four rows that do not count, then (1, 0) and (3, 2).
/// let q = Array3::from_shape_vec((1, 6, 2), [vec![9.0; 8], vec![1.0, 0.0, 3.0, 2.0]].concat())?;
/// let mut moments = Moments::new(1, 2);
/// moments.add(0, q.view());
/// // Half of the positions do not turn, half turn by 90°.
/// let future = moments.turned(&[0.5], &[0.5], Grid::Native);
/// assert_eq!(future.mean.as_slice(), Some(&[0.5, 1.5][..])); // μ = (2, 1)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Moments {
    /// m: the rows that count so far.
    rows: usize,
    heads: Vec<Sums>,
}

/// The sums of one head, in f64.
#[derive(Debug, Clone)]
struct Sums {
    /// c: the first query that counts, \[d_h\].
    first: Vec<f64>,
    /// Σ (q − c): \[d_h\].
    sum: Vec<f64>,
    /// Σ (q − c)(q − c)ᵀ: [d_h, d_h], row-major.
    squares: Vec<f64>,
}

impl Moments {
    /// No rows yet, of this many query heads of size d_h.
    pub fn new(heads: usize, d_h: usize) -> Moments {
        let sums = Sums { first: vec![0.0; d_h], sum: vec![0.0; d_h], squares: vec![0.0; d_h * d_h] };
        Moments { rows: 0, heads: vec![sums; heads] }
    }

    /// Adds the queries of the prompt rows from `first` on; the rows of a prompt come in order. q: [H, rows, d_h], before
    /// rotary.
    pub fn add<T: Real>(&mut self, first: usize, q: ArrayView3<'_, T>) {
        let rows = q.shape()[1];
        let skipped = SINKS.saturating_sub(first).min(rows);
        let begins = self.rows == 0;
        self.rows += rows - skipped;
        self.heads.par_iter_mut().zip(q.outer_iter().into_par_iter()).for_each(|(sums, q)| {
            let d = sums.first.len();
            let counted: Vec<f64> = q.outer_iter().skip(skipped).flat_map(|row| row.map(|q| q.to_f64())).collect();
            if begins && !counted.is_empty() {
                sums.first.copy_from_slice(&counted[..d]);
            }
            for rows in counted.chunks((d * AT_ONCE).max(1)) {
                sums.add(rows.to_vec());
            }
        });
    }

    /// μ′ and Σ′ under the mean rotation of the positions that follow: cos, sin: \[d_h/2\], the means over these
    /// positions. Spec: E9.37, R9.37
    pub fn turned<T: Real>(&self, cos: &[T], sin: &[T], grid: Grid) -> Future<T> {
        let (heads, d) = (self.heads.len(), self.heads.first().map_or(0, |sums| sums.first.len()));
        let (mut mean, mut covariance) = (Array2::zeros((heads, d)), Array3::zeros((heads, d, d)));
        for (h, sums) in self.heads.iter().enumerate() {
            let (mu, sigma) = sums.statistics(self.rows);
            let stored = |v: f64| grid.round(T::of(v));
            let mu: Vec<T> = mu.into_iter().map(stored).collect();
            mean.row_mut(h).iter_mut().zip(rotated(&mu, cos, sin, grid)).for_each(|(to, v)| *to = v);
            // Σ Rᵀ row by row, then R (Σ Rᵀ) column by column.
            let rows: Vec<T> = sigma
                .chunks_exact(d.max(1))
                .flat_map(|row| rotated(&row.iter().map(|&v| stored(v)).collect::<Vec<T>>(), cos, sin, grid))
                .collect();
            for j in 0..d {
                let column: Vec<T> = (0..d).map(|i| rows[i * d + j]).collect();
                for (i, v) in rotated(&column, cos, sin, grid).into_iter().enumerate() {
                    covariance[[h, i, j]] = v;
                }
            }
        }
        Future { mean, covariance }
    }
}

impl Sums {
    /// Adds queries, [rows, d_h]. Each sum takes one row after the other, however many rows come at once.
    fn add(&mut self, mut x: Vec<f64>) {
        let Sums { first, sum, squares } = self;
        let d = first.len().max(1);
        vectorize(
            #[inline(always)]
            || {
                for row in x.chunks_exact_mut(d) {
                    row.iter_mut().zip(&*first).for_each(|(x, c)| *x -= c);
                    sum.iter_mut().zip(&*row).for_each(|(s, x)| *s += x);
                }
                for (i, line) in squares.chunks_exact_mut(d).enumerate() {
                    let (blocks, rest) = line.as_chunks_mut::<LANES>();
                    let end = blocks.len() * LANES;
                    for (b, block) in blocks.iter_mut().enumerate() {
                        for row in x.chunks_exact(d) {
                            let own = &row[b * LANES..][..LANES];
                            for j in 0..LANES {
                                block[j] += row[i] * own[j];
                            }
                        }
                    }
                    for row in x.chunks_exact(d) {
                        rest.iter_mut().zip(&row[end..]).for_each(|(s, &x)| *s += row[i] * x);
                    }
                }
            },
        );
    }

    /// μ \[d_h\] and Σ [d_h, d_h] of m rows; zeros if there are none. Spec: C9.37b
    fn statistics(&self, m: usize) -> (Vec<f64>, Vec<f64>) {
        let m = m.max(1) as f64;
        let off: Vec<f64> = self.sum.iter().map(|s| s / m).collect();
        let mean = self.first.iter().zip(&off).map(|(c, off)| c + off).collect();
        let d = off.len();
        let covariance = (0..d * d).map(|at| self.squares[at] / m - off[at / d] * off[at % d]).collect();
        (mean, covariance)
    }
}

/// R x: the two halves of x, turned pair by pair. x: \[d_h\]. Spec: E9.37, E3.13
fn rotated<T: Real>(x: &[T], cos: &[T], sin: &[T], grid: Grid) -> Vec<T> {
    let (a, b) = x.split_at(x.len() / 2);
    let pair = |i: usize| (a[i], b[i], cos[i], sin[i]);
    let low = (0..a.len()).map(pair).map(|(a, b, c, s)| grid.round(a * c - b * s));
    let high = (0..a.len()).map(pair).map(|(a, b, c, s)| grid.round(b * c + a * s));
    low.chain(high).collect()
}

/// The means over rows of two tables, [N, d_h/2] → \[d_h/2\] each. Spec: E9.37, R9.37
pub(crate) fn mean_rotation<T: Real>(cos: ArrayView2<'_, T>, sin: ArrayView2<'_, T>, grid: Grid) -> [Vec<T>; 2] {
    let mean = |table: ArrayView2<'_, T>| {
        let count = table.nrows().max(1) as f64;
        let of = |column: ndarray::ArrayView1<'_, T>| column.iter().fold(0.0, |sum, v| sum + v.to_f64()) / count;
        table.columns().into_iter().map(|column| grid.round(T::of(of(column)))).collect()
    };
    [mean(cos), mean(sin)]
}
