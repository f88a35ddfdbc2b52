//! Means, standard errors and confidence intervals. Source: E. B. Wilson 1927.

/// z of a two-sided 95 % interval.
pub(super) const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of the share `hits` / `n`; (0, 1) if n is 0.
///
/// ```
/// let (low, high) = aircache::eval::wilson(50, 100);
/// assert!((low - 0.4038).abs() < 1e-4 && (high - 0.5962).abs() < 1e-4);
/// ```
pub fn wilson(hits: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    // At p = 0 and at p = 1, one end of the interval is exact; rounding must not move it beyond 0 or 1.
    let low = if p == 0.0 { 0.0 } else { (centre - half) / scale };
    let high = if p == 1.0 { 1.0 } else { (centre + half) / scale };
    (low, high)
}

/// The mean; 0 of nothing.
pub fn mean(scores: &[f64]) -> f64 {
    if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
}

/// The standard error of the mean: the sample's standard deviation / √n; 0 of fewer than two scores.
pub fn stderr(scores: &[f64]) -> f64 {
    let (n, mean) = (scores.len() as f64, mean(scores));
    let squares: f64 = scores.iter().map(|s| (s - mean) * (s - mean)).sum();
    if scores.len() < 2 { 0.0 } else { (squares / (n - 1.0) / n).sqrt() }
}

/// The mean of scores in [0, 1] and its 95 % interval by the normal approximation, cut off at 0 and 1.
pub fn mean_interval(scores: &[f64]) -> (f64, (f64, f64)) {
    if scores.is_empty() {
        return (0.0, (0.0, 1.0));
    }
    let mean = mean(scores);
    let half = if scores.len() < 2 { 1.0 } else { Z * stderr(scores) };
    (mean, ((mean - half).max(0.0), (mean + half).min(1.0)))
}
