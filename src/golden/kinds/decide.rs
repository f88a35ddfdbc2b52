//! What the rule keeps of a layer, from importances. Kept sets and budgets of heads are judged by it.

use crate::golden::case::Case;
use crate::golden::parsed::window;
use crate::policy::LayerScores;
use crate::stage::{Site, Stage};
use ndarray::Array2;

/// What the rule keeps of a layer: `b` of the candidates with these importances, in each set or in the mean.
pub(super) fn decide(case: &Case<'_>, l: usize, b: usize, importance: &Array2<f64>) -> Option<Vec<Vec<usize>>> {
    let (scorer, n, sets) = (case.scorer.as_ref()?, case.rows()?, importance.nrows());
    // Votes come from the candidate's own windows, if it stores windows.
    let name = Stage::layer(Site::Window, l).name();
    let votes = window(case.candidate, &name, sets, n).or_else(|| window(case.golden, &name, sets, n));
    let layer = LayerScores {
        kv_heads: sets,
        window: votes.unwrap_or_else(|| vec![vec![]; sets]),
        importance: importance.clone(),
        strength: 0.0,
        skewness: 0.0,
        spread: 1.0,
        weights: scorer.policy().split.weights(l, sets).ok()?,
    };
    scorer.keep(vec![b], &[layer]).decisions.map(|d| d.kept[0].clone())
}
