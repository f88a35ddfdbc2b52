//! Rotary position embedding.
//!
//! The truth's angles are exact. Programs that train and serve checkpoints compute the angles in f32, in every type of
//! the model; so does every precision but the truth (A3.12). Cosine and sine are computed in f64, the rotation in the
//! container.

use super::simd::vectorize;
use super::team::share;
use crate::num::{Grid, Real};
use ndarray::{Array2, ArrayViewMut2, Axis};

/// cos and sin of every row's angles, both [n, d_h/2]. Spec: E3.12
#[derive(Debug, Clone)]
pub struct Angles<T> {
    /// cos(position · frequency).
    pub cos: Array2<T>,
    /// sin(position · frequency).
    pub sin: Array2<T>,
}

/// How an angle is computed. Spec: E3.12
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// In f64, as the truth does.
    Exact,
    /// Frequency, then angle, each in f32, as transformers does (A3.12).
    Rounded,
    /// In f32, from the position on: one product with f_1 for each pair, as llama.cpp does.
    Chain,
}

impl Turn {
    /// The turn of a container: exact in f64, as transformers computes it in f32.
    pub fn of<T: Real>() -> Turn {
        if size_of::<T>() == size_of::<f64>() { Turn::Exact } else { Turn::Rounded }
    }
}

/// The frequencies θ^(−2i/d_h), i < d_h/2. Spec: E3.12
#[derive(Debug, Clone)]
pub struct Frequencies {
    theta: f64,
    head_dim: usize,
    exact: Vec<f64>,
    rounded: Vec<f32>,
    /// f_1, from which a chain computes all frequencies.
    step: f32,
    /// What the frequencies were divided by.
    factors: Option<Vec<f32>>,
}

/// The frequencies 1 / θ^(2i/d_h), i < d_h/2, as transformers computes them: exponent, power and reciprocal each
/// rounded to f32. Spec: E3.12, C3.12a, A3.12
///
/// ```
/// assert_eq!(aircache::kernel::inverse_frequencies(10000.0, 4), [1.0, 0.01]);
/// ```
pub fn inverse_frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2).map(|i| 1.0 / (libm::pow(theta, exponent(i) as f64) as f32)).collect()
}

impl Frequencies {
    /// The frequencies of heads of size d_h.
    pub fn new(theta: f64, head_dim: usize) -> Self {
        let exact = (0..head_dim / 2).map(|i| libm::pow(theta, -((2 * i) as f64) / head_dim as f64)).collect();
        let step = libm::pow(theta, -2.0 / head_dim as f64) as f32;
        Frequencies { theta, head_dim, exact, rounded: inverse_frequencies(theta, head_dim), step, factors: None }
    }

    /// Each frequency divided by its factor, as long rope has it. Spec: E6.15
    pub fn divided(self, factors: &[f64]) -> Self {
        let exact = self.exact.iter().zip(factors).map(|(f, factor)| f / factor).collect();
        let power = |i: usize| libm::pow(self.theta, f64::from((2 * i) as f32 / self.head_dim as f32)) as f32;
        let factors: Vec<f32> = factors.iter().map(|&factor| factor as f32).collect();
        let rounded = factors.iter().enumerate().map(|(i, factor)| 1.0 / (factor * power(i))).collect();
        Frequencies { exact, rounded, factors: Some(factors), ..self }
    }

    /// The number of frequencies.
    #[allow(clippy::len_without_is_empty)] // a head of size 0 does not exist
    pub fn len(&self) -> usize {
        self.exact.len()
    }

    /// The angle of pair i at a position. Spec: E3.12
    pub fn angle(&self, turn: Turn, position: i64, i: usize) -> f64 {
        match turn {
            Turn::Exact => position as f64 * self.exact[i],
            Turn::Rounded => f64::from(position as f32 * self.rounded[i]),
            Turn::Chain => {
                let angle = (0..i).fold(position as f32, |angle, _| angle * self.step);
                f64::from(self.factors.as_ref().map_or(angle, |factors| angle / factors[i]))
            }
        }
    }

    /// How far an honest angle in f32 may be from the exact angle, in radians. Spec: D10.11
    pub fn slack(&self, position: i64, i: usize) -> f64 {
        let logarithm = 2.0 * i as f64 / self.head_dim as f64 * self.theta.ln();
        let roundings = 6.0 + 2.0 * logarithm + 2.0 * i as f64;
        self.angle(Turn::Exact, position, i).abs() * roundings * (-24f64).exp2()
    }
}

impl<T: Real> Angles<T> {
    /// The same cosines and sines times s, stored in `grid`. Spec: E6.15, R6.15
    pub fn scaled(self, s: f64, grid: Grid) -> Self {
        let times = |table: Array2<T>| table.mapv_into(|v| grid.round(v * T::of(s)));
        Angles { cos: times(self.cos), sin: times(self.sin) }
    }

    /// The cosine and sine of the angles of all rows, stored in `grid` (R3.12).
    ///
    /// `at(row, i)` is the frequency and the position that rotate pair i of the row. The position depends on i only in
    /// M-RoPE. Spec: E3.12, C3.12b
    pub fn new(
        (rows, pairs): (usize, usize),
        frequencies: &Frequencies,
        at: impl Fn(usize, usize) -> (usize, i64),
        turn: Turn,
        grid: Grid,
    ) -> Self {
        let angle = |(row, pair): (usize, usize)| {
            let (i, position) = at(row, pair);
            frequencies.angle(turn, position, i)
        };
        let table = |f: fn(f64) -> f64| Array2::from_shape_fn((rows, pairs), |at| grid.round(T::of(f(angle(at)))));
        Angles { cos: table(libm::cos), sin: table(libm::sin) }
    }

    /// Rotates every head of every row in place: (a, b) → (a·cos − b·sin, b·cos + a·sin); a and b are the two halves of
    /// a head.
    ///
    /// x: [n, heads · d_h]. The four products are stored before they are added (R3.13). Spec: E3.13
    pub fn rotate(&self, mut x: ArrayViewMut2<'_, T>, head_dim: usize, grid: Grid) {
        let half = head_dim / 2;
        let rows = x.nrows().div_ceil(4 * rayon::current_num_threads()).max(1);
        let tables = self.cos.axis_chunks_iter(Axis(0), rows).zip(self.sin.axis_chunks_iter(Axis(0), rows));
        share(x.axis_chunks_iter_mut(Axis(0), rows).zip(tables), |(mut x, (cos, sin))| {
            vectorize(
                #[inline(always)]
                || {
                    for ((mut row, cos), sin) in x.outer_iter_mut().zip(cos.outer_iter()).zip(sin.outer_iter()) {
                        let (Some(row), Some(cos), Some(sin)) = (row.as_slice_mut(), cos.to_slice(), sin.to_slice())
                        else {
                            unreachable!("E3.13: rows are contiguous")
                        };
                        for head in row.chunks_exact_mut(head_dim) {
                            let (a, b) = head.split_at_mut(half);
                            turn(a, b, cos, sin, grid);
                        }
                    }
                },
            )
        });
    }
}

/// Rotates the two halves of a head. a, b, cos, sin: \[d_h/2\]. Spec: E3.13, R3.13
#[inline(always)]
fn turn<T: Real>(a: &mut [T], b: &mut [T], cos: &[T], sin: &[T], grid: Grid) {
    for ((a, b), (&c, &s)) in a.iter_mut().zip(b).zip(cos.iter().zip(sin)) {
        let (ac, bs) = (grid.round(*a * c), grid.round(*b * s));
        let (bc, as_) = (grid.round(*b * c), grid.round(*a * s));
        *a = grid.round(ac - bs);
        *b = grid.round(bc + as_);
    }
}
