//! How the layers share the total: one function for each rule; integers by [`apportion`](super::apportion).

use super::apportion::{Quota, compare, floor_of_one, largest_remainders, multiples};
use super::{Budget, Decimal, LayerScores, Retain, apportion};

/// Candidates kept in each layer: \[L\]. No value is above `candidates`, and the sum is [`Retain::total`] under every
/// rule except full. Spec: E8.7, C8.7a, C8.7b, C8.7c, D9.3, C9.3a
// ANCHOR: budgets
pub(super) fn budgets(rule: Budget, retain: Retain, layers: &[LayerScores], candidates: usize) -> Vec<usize> {
    let ones = vec![1.0; layers.len()];
    let strengths = || relative(layers.iter().map(|l| l.strength).collect());
    let skewnesses = || relative(layers.iter().map(|l| l.skewness.max(0.0)).collect());
    match rule {
        Budget::Full => vec![candidates; layers.len()],
        Budget::Uniform => apportion(&ones, retain, candidates),
        Budget::Pyramid { beta } => pyramid(beta, retain, candidates, layers.len()),
        Budget::Prefix => prefix(retain, layers, candidates),
        Budget::Sparsity { .. } | Budget::Entropy | Budget::Votes => {
            apportion(&layers.iter().map(|l| l.spread).collect::<Vec<_>>(), retain, candidates)
        }
        Budget::Heads => {
            let sum = |l: &LayerScores| l.weights.iter().sum::<f64>();
            apportion(&layers.iter().map(sum).collect::<Vec<_>>(), retain, candidates)
        }
        Budget::Strength => apportion(&strengths(), retain, candidates),
        Budget::Skewness => apportion(&skewnesses(), retain, candidates),
        Budget::Both => {
            let shares: Vec<f64> = strengths().iter().zip(skewnesses()).map(|(t, k)| 0.5 * (t + k)).collect();
            apportion(&shares, retain, candidates)
        }
    }
}
// ANCHOR_END: budgets

/// The ′ of (7): divided by the mean over layers, so that the average is 1; all 1 if the mean is 0. Spec: A8.5, A8.6
// ANCHOR: relative
fn relative(values: Vec<f64>) -> Vec<f64> {
    let mean = crate::num::sum(&values) / values.len() as f64;
    values.iter().map(|&v| if mean > 0.0 { v / mean } else { 1.0 }).collect()
}
// ANCHOR_END: relative

/// Linear from max = 2·b̄ − b̄/β down to min = b̄/β; if max is above N, from N down to 2·b̄ − N. All values are
/// quotients of integers. Spec: E9.5, A9.4
fn pyramid(beta: Decimal, retain: Retain, candidates: usize, layers: usize) -> Vec<usize> {
    let (num, den) = retain.ratio(candidates);
    let (bn, bd) = (beta.numerator(), beta.denominator());
    let (n, steps) = (candidates as u128, layers.saturating_sub(1).max(1) as u128);
    let slope = |l: usize| if layers == 1 { (1, 2) } else { (l as u128, steps) };
    let quotas: Vec<Quota> = (0..layers)
        .map(|l| {
            let (l, steps) = slope(l);
            // b̄ = N·num/den; max ≤ N ⇔ num·(2·bn − bd) ≤ den·bn.
            let (top, unit) = if num * (2 * bn - bd) <= den * bn {
                (n * num * ((2 * bn - bd) * steps - 2 * (bn - bd) * l), den * bn * steps)
            } else {
                (n * (den * steps - 2 * (den - num) * l), den * steps)
            };
            Quota { whole: top / unit, rest: top % unit }
        })
        .collect();
    let total = retain.total(candidates, layers);
    floor_of_one(largest_remainders(&quotas, total), total)
}

/// One threshold on cumulative shares. Entry j of a layer's ranking is kept if the share of importance before the entry
/// is below the threshold. The threshold is chosen so that exactly the total is kept; ties go to the lower layer.
/// Spec: E9.6, C9.6c
fn prefix(retain: Retain, layers: &[LayerScores], candidates: usize) -> Vec<usize> {
    let total = retain.total(candidates, layers.len());
    let mut entries: Vec<(Share, usize)> = layers
        .iter()
        .enumerate()
        .flat_map(|(l, scores)| before(scores).into_iter().map(move |share| (share, l)))
        .collect();
    entries.sort_by(|a, b| compare(a.0, b.0).then(a.1.cmp(&b.1)));
    let mut budget = vec![0; layers.len()];
    entries.iter().take(total).for_each(|&(_, l)| budget[l] += 1);
    floor_of_one(budget, total)
}

/// A quotient of integers: the importance before an entry, and the importance of all entries.
type Share = (u128, u128);

/// The share of importance before each entry of the ranking, for importances averaged over kept sets: \[N_c\],
/// ascending. If all importances are 0, they count as equal. Spec: C9.6d
fn before(scores: &LayerScores) -> Vec<Share> {
    let (sets, n) = scores.importance.dim();
    let mean = |i: usize| scores.importance.column(i).iter().sum::<f64>() / sets as f64;
    let mut importance = multiples(&(0..n).map(mean).collect::<Vec<_>>(), 52);
    if importance.iter().all(|&i| i == 0) {
        importance.fill(1);
    }
    importance.sort_unstable_by(|a, b| b.cmp(a));
    let all = importance.iter().sum();
    let mut sum = 0;
    let mut shares = Vec::with_capacity(n);
    for i in importance {
        shares.push((sum, all));
        sum += i;
    }
    shares
}
