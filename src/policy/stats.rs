//! Statistics of a layer's importances: strength, skewness, density. In f64 in every precision.

use crate::num::{Real, sum};
use ndarray::Array2;

/// s_t = Σ I_v: how much this layer looks at the image. importance: \[N_v\]. Spec: E8.5
///
/// ```
/// assert_eq!(aircache::policy::strength(&[0.125, 0.25, 0.125]), 0.5);
/// ```
// ANCHOR: strength
pub fn strength(importance: &[f64]) -> f64 {
    sum(importance)
}
// ANCHOR_END: strength

/// s_k = N / ((N−1)(N−2)) · Σ ((I − μ) / σ)³, σ the sample deviation (A8.7): how concentrated the layer's attention is.
///
/// 0 for fewer than three importances, and if all are equal (A8.6). The importances themselves are compared: their mean
/// is rounded, so the deviations from the mean would not be 0. Spec: E8.6, C8.6a, C8.6b, A8.6, A8.7
///
/// ```
/// assert!((aircache::policy::skewness(&[0.0, 0.0, 3.0]) - 3f64.sqrt()).abs() < 1e-15);
/// ```
// ANCHOR: skewness
pub fn skewness(importance: &[f64]) -> f64 {
    let n = importance.len() as f64;
    if importance.len() < 3 || importance.iter().all(|&i| i == importance[0]) {
        return 0.0;
    }
    // Divided by the largest importance, so that squares of small importances do not underflow.
    let largest = importance.iter().copied().fold(0.0, f64::max);
    let relative: Vec<f64> = importance.iter().map(|i| i / largest).collect();
    let mu = sum(&relative) / n;
    let deviations: Vec<f64> = relative.iter().map(|i| i - mu).collect();
    let of = |f: fn(f64) -> f64, values: &[f64]| sum(&values.iter().map(|&d| f(d)).collect::<Vec<_>>());
    let sigma = (of(|d| d * d, &deviations) / (n - 1.0)).sqrt();
    let standard: Vec<f64> = deviations.iter().map(|d| d / sigma).collect();
    let cubes = of(|z| z * z * z, &standard);
    n / ((n - 1.0) * (n - 2.0)) * cubes
}
// ANCHOR_END: skewness

/// A statistic of a layer with several kept sets: the mean over the sets. importance: [S, N_c]. Spec: E8.5, E8.6
pub(crate) fn over_sets(importance: &Array2<f64>, statistic: fn(&[f64]) -> f64) -> f64 {
    let each: Vec<f64> = importance.rows().into_iter().map(|row| statistic(&row.to_vec())).collect();
    sum(&each) / each.len().max(1) as f64
}

/// The number of entries of an attention row that reach `least` times the row's maximum. p: [C]. Spec: E9.7
pub(super) fn reaching<T: Real>(p: &[T], least: T) -> u64 {
    let max = p.iter().copied().fold(T::NEG_INFINITY, T::max);
    p.iter().filter(|&&p| p >= least * max).count() as u64
}

/// A share of entries, no less than 1 % and no more than 100 %. Spec: E9.7, A9.5
pub(super) fn density(share: f64) -> f64 {
    share.clamp(0.01, 1.0)
}

/// −Σ p ln p of an attention row; 0 ln 0 is 0. p: [C]. Spec: E9.16
pub(super) fn entropy<T: Real>(p: &[T]) -> f64 {
    let terms: Vec<f64> = p.iter().map(|p| p.to_f64()).map(|p| if p > 0.0 { -p * libm::log(p) } else { 0.0 }).collect();
    sum(&terms)
}
