//! Helpers of the tests of chapters 02 to 07: unit roundoffs, error bounds, random numbers.

use aircache::num::Real;
use ndarray::Array2;

/// Unit roundoff of a container. T1.1
pub fn unit<T: Real>() -> f64 {
    if T::NAME == "f32" { 2f64.powi(-24) } else { 2f64.powi(-53) }
}

/// γ_j = j·u / (1 − j·u): the error bound of j roundings in sequence. T1.1
pub fn gamma<T: Real>(j: usize) -> f64 {
    let ju = j as f64 * unit::<T>();
    ju / (1.0 - ju)
}

/// Relative error of an exponential: 1.01 ULP in f32, 2 ULP in f64 (C2.7a, C2.7b); a ULP is at most 2u of the value.
pub fn exp_error<T: Real>() -> f64 {
    if T::NAME == "f32" { 2.02 * unit::<T>() } else { 4.0 * unit::<T>() }
}

/// A sequence of pseudo-random numbers: SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A uniform number in ±scale. It is a multiple of 2⁻²⁰ · scale, so f32 and f64 get the same number if scale is a
    /// power of two.
    pub fn number<T: Real>(&mut self, scale: f64) -> T {
        T::of(((self.bits() >> 43) as f64 / (1 << 20) as f64 - 1.0) * scale)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn row<T: Real>(&mut self, n: usize, scale: f64) -> Vec<T> {
        (0..n).map(|_| self.number(scale)).collect()
    }

    pub fn matrix<T: Real>(&mut self, rows: usize, cols: usize, scale: f64) -> Array2<T> {
        Array2::from_shape_fn((rows, cols), |_| self.number(scale))
    }
}

/// The bit patterns, for comparisons in which −0 differs from 0 and NaN equals itself.
pub fn bits<'a, T: Real>(x: impl IntoIterator<Item = &'a T>) -> Vec<u64> {
    x.into_iter().map(|v| if T::NAME == "f32" { v.to_f32().to_bits() as u64 } else { v.to_f64().to_bits() }).collect()
}

/// The same numbers in f64.
pub fn widen<T: Real>(x: &Array2<T>) -> Array2<f64> {
    x.mapv(Real::to_f64)
}

/// Runs `f` on a pool of `n` threads.
pub fn threads<R: Send>(n: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(f)
}

/// A proptest configuration of `n` cases that writes no file.
pub fn cases(n: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases: n, failure_persistence: None, ..Default::default() }
}
