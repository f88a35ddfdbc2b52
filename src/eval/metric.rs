//! Scores of answers, and the confidence interval of their mean. Source: the DocVQA challenge (ANLS), E. B. Wilson 1927.

/// z of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// True if the answer equals an accepted string after trimming white space. Case matters.
///
/// ```
/// assert!(aircache::eval::exact_match(" 48\n", &["48".into()]));
/// assert!(!aircache::eval::exact_match("w400", &["W400".into()]));
/// ```
pub fn exact_match(answer: &str, accepted: &[String]) -> bool {
    accepted.iter().any(|a| a.trim() == answer.trim())
}

/// Average normalised Levenshtein similarity: 1 − distance / the longer length, over characters; 0 where that is below ½;
/// the best over the accepted strings. Case and the amount of white space do not matter, as in the challenge's own code.
///
/// ```
/// assert_eq!(aircache::eval::anls("Rome", &["rome".into()]), 1.0);
/// assert_eq!(aircache::eval::anls("Roma", &["Rome".into()]), 0.75);
/// assert_eq!(aircache::eval::anls("Paris", &["Rome".into()]), 0.0);
/// ```
pub fn anls(answer: &str, accepted: &[String]) -> f64 {
    let plain =
        |s: &str| -> Vec<char> { s.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ").chars().collect() };
    let answer = plain(answer);
    let similarity = |a: &String| {
        let accepted = plain(a);
        let longer = answer.len().max(accepted.len());
        if longer == 0 { 1.0 } else { 1.0 - levenshtein(&answer, &accepted) as f64 / longer as f64 }
    };
    let best = accepted.iter().map(similarity).fold(0.0, f64::max);
    if best < 0.5 { 0.0 } else { best }
}

/// Insertions, deletions and substitutions from `a` to `b`.
fn levenshtein(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

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

/// The mean of scores in [0, 1] and its 95 % interval by the normal approximation, cut off at 0 and 1.
pub fn mean_interval(scores: &[f64]) -> (f64, (f64, f64)) {
    let n = scores.len() as f64;
    if scores.is_empty() {
        return (0.0, (0.0, 1.0));
    }
    let mean = scores.iter().sum::<f64>() / n;
    let squares: f64 = scores.iter().map(|s| (s - mean) * (s - mean)).sum();
    let half = if scores.len() < 2 { 1.0 } else { Z * (squares / (n - 1.0) / n).sqrt() };
    (mean, ((mean - half).max(0.0), (mean + half).min(1.0)))
}
