//! The order in which a budget takes candidates: first the candidates that are always kept, then the most important.

use super::{Keep, Scope};

/// Candidates by importance descending, then index ascending. importance: \[N_c\], no NaN (C8.4e). Spec: A8.10
///
/// ```
/// assert_eq!(aircache::policy::ranking(&[0.1, 0.4, 0.1, 0.4]), [1, 3, 0, 2]);
/// ```
// ANCHOR: ranking
pub fn ranking(importance: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..importance.len()).collect();
    // The sort is stable, so equal importances stay in index order; + 0 makes −0 and 0 equal.
    order.sort_by(|&a, &b| (importance[b] + 0.0).total_cmp(&(importance[a] + 0.0)));
    order
}
// ANCHOR_END: ranking

/// The numbers by which Elastic Cache's code ranks: of candidate i, which candidate has the i-th smallest importance. The
/// `first` and the `last` candidates are not sorted. importance: \[N_c\] → \[N_c\]. Spec: E9.21
pub(super) fn slipped(keep: &Keep, importance: &[f64]) -> Vec<f64> {
    let n = importance.len();
    let first = keep.first.min(n);
    let mut order: Vec<usize> = (first..n.saturating_sub(keep.last).max(first)).collect();
    // The sort is stable, so equal importances stay in index order; + 0 makes −0 and 0 equal.
    order.sort_by(|&a, &b| (importance[a] + 0.0).total_cmp(&(importance[b] + 0.0)));
    let mut slipped = vec![0.0; n];
    slipped[first..].iter_mut().zip(order).for_each(|(slipped, place)| *slipped = place as f64);
    slipped
}

/// The number of candidates that are kept in addition to a layer's budget. window: candidates that are rows of the
/// window; n: N_c. Spec: C9.4b
pub(super) fn on_top(keep: &Keep, window: &[usize], n: usize) -> usize {
    let forced = |i: &usize| *i < keep.first || *i + keep.last >= n || (keep.window && window.binary_search(i).is_ok());
    if keep.on_top { (0..n).filter(forced).count() } else { 0 }
}

/// The candidates of one kept set in the order in which a budget of `b` takes them, each once.
#[derive(Debug)]
pub(super) struct Order {
    /// \[N_c\].
    pub candidates: Vec<usize>,
    /// How many of them come before the ranking.
    pub forced: usize,
}

/// In this order: under scope all, the prompt's last row; the `first`; the `last`, latest first; `window`, latest first;
/// the ⌊recent·b⌋ latest; then the ranking. window: candidates that are rows of the window, ascending.
/// Spec: E9.8, C9.8a, C9.5a, A9.3, A9.6
pub(super) fn order(keep: &Keep, scope: Scope, importance: &[f64], window: &[usize], b: usize) -> Order {
    let n = importance.len();
    let recent = (b as u128 * keep.recent.numerator() / keep.recent.denominator()) as usize;
    let latest = |count: usize| (n.saturating_sub(count)..n).rev();
    let window = window.iter().copied().rev().filter(|_| keep.window);
    let own = latest(usize::from(scope == Scope::All));
    let forced = own.chain(0..keep.first.min(n)).chain(latest(keep.last)).chain(window).chain(latest(recent));
    let mut chosen = vec![false; n];
    let mut fresh = |i: &usize| !std::mem::replace(&mut chosen[*i], true);
    let mut candidates: Vec<usize> = forced.filter(&mut fresh).collect();
    let forced = candidates.len();
    candidates.extend(ranking(importance).into_iter().filter(fresh));
    Order { candidates, forced }
}
