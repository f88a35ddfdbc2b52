//! Average normalised Levenshtein similarity, by the DocVQA challenge and by the evaluation kits.

use super::python;

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

/// ANLS as lmms-eval and VLMEvalKit compute it: the distance of the texts with white space collapsed, divided by the length
/// of the longer text *as it came*. White space around a wrong answer therefore raises its score.
///
/// ```
/// assert_eq!(aircache::eval::anls_lmms("Roma    ", &["Rome".into()]), 1.0 - 1.0 / 8.0);
/// ```
pub fn anls_lmms(answer: &str, accepted: &[String]) -> f64 {
    let plain =
        |s: &str| -> Vec<char> { python::split(&s.to_lowercase()).collect::<Vec<_>>().join(" ").chars().collect() };
    let raw = |s: &str| s.to_uppercase().chars().count();
    let distance = |a: &String| match raw(a).max(raw(answer)) {
        0 => 0.0,
        length => levenshtein(&plain(a), &plain(answer)) as f64 / length as f64,
    };
    let score = 1.0 - accepted.iter().map(distance).fold(f64::INFINITY, f64::min);
    if score < 0.5 { 0.0 } else { score }
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
