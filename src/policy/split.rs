//! How the KV heads of a layer share its budget.

use super::keep::{Order, order, slipped};
use super::{Decimal, Evict, LayerScores, Policy, Retain, Split, apportion};
use crate::error::{Result, ensure};

impl Split {
    /// The part as it is written, and the share of the budget that is shared evenly, or that each head has at least.
    pub(super) fn floor(&self) -> Option<(&'static str, Decimal)> {
        match self {
            Split::Even => None,
            Split::Ada { floor } => Some(("split=ada", *floor)),
            Split::Heads { floor, .. } => Some(("split=heads", *floor)),
        }
    }

    /// The weights of the kept sets of a layer: \[S\], all 1 unless heads have scores. Spec: E9.22
    ///
    /// # Errors
    /// The scores are those of another model.
    pub(crate) fn weights(&self, layer: usize, sets: usize) -> Result<Vec<f64>> {
        let Split::Heads { floor, scores } = self else { return Ok(vec![1.0; sets]) };
        let weights = scores.weights(layer, sets, floor.to_f64());
        ensure!(
            weights.is_some(),
            "policy: split=heads",
            format!("scores of layer {layer} and its {sets} KV heads"),
            scores
        );
        Ok(weights.unwrap_or_default())
    }
}

/// The candidates that each kept set of a layer keeps, ascending: [S][·]; `b` in each set, or S·b in all of them.
/// window: [S][·], candidates that are rows of the window. Spec: D9.7, E9.8, E9.18, E9.21
pub(super) fn kept(policy: &Policy, layer: &LayerScores, window: &[Vec<usize>], b: usize) -> Vec<Vec<usize>> {
    let ranked = |importance: Vec<f64>| match policy.evict {
        Evict::Drop | Evict::Nearest | Evict::Pivot => importance,
        Evict::ElasticCode => slipped(&policy.keep, &importance),
    };
    let of = |s: usize| order(&policy.keep, policy.scope, &ranked(layer.importance.row(s).to_vec()), &window[s], b);
    let orders: Vec<Order> = (0..window.len()).map(of).collect();
    let b = b.min(layer.importance.ncols());
    let counts = match &policy.split {
        Split::Even => vec![b; orders.len()],
        Split::Ada { floor } => {
            let floor = (b as u128 * floor.numerator() / floor.denominator()) as usize;
            best_pairs(layer, &orders, floor, b)
        }
        Split::Heads { .. } if b == 0 => vec![0; orders.len()],
        Split::Heads { .. } => apportion(&layer.weights, Retain::Tokens(b), layer.importance.ncols()), // E9.22
    };
    let ascending = |(order, count): (Order, usize)| {
        let mut kept = order.candidates;
        kept.truncate(count);
        kept.sort_unstable();
        kept
    };
    orders.into_iter().zip(counts).map(ascending).collect()
}

/// How many candidates each head keeps: at least `floor` and the forced ones, and the best pairs of head and candidate
/// up to b a head in the mean. Ties go to the lower head, then to the lower candidate. Spec: E9.18
fn best_pairs(layer: &LayerScores, orders: &[Order], floor: usize, b: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = orders.iter().map(|order| order.forced.max(floor).min(b)).collect();
    let left = b * orders.len() - counts.iter().sum::<usize>();
    let rest = |(g, order): (usize, &Order)| {
        let candidates = order.candidates[counts[g]..].to_vec();
        candidates.into_iter().map(move |i| (layer.importance[[g, i]] + 0.0, g))
    };
    let mut pairs: Vec<(f64, usize)> = orders.iter().enumerate().flat_map(rest).collect();
    // The sort is stable, and each head's pairs are in the order of its ranking.
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs.iter().take(left).for_each(|&(_, g)| counts[g] += 1);
    counts
}
