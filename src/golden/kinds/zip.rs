//! Judges which visual rows are merged before the decoder, and into which: by the candidate's own keys, every row goes to
//! the target that it is most like, within the roundoff of cosines. Not here: the votes of dominant rows (pruned.rs), and
//! the merged rows, which are judged as numbers. Spec: C9.12b

use super::integers::not_integers;
use crate::golden::Bundle;
use crate::golden::case::Case;
use crate::golden::parsed::into;
use crate::golden::rulers::roundoff;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::num::Grid;
use crate::policy::{Directions, NOWHERE, Rater, contextual, destinations, keyed, targets};
use crate::stage::{Site, Stage};
use ndarray::{Array2, ArrayD, Ix2};

/// How far two cosines may be from each other and still stand in the other order: norms and quotients of two rows (4u), the
/// cosine (u), a sum of products in f32. width: numbers of a key. Spec: C9.12b
fn margin(roundoff: f64, width: usize) -> f64 {
    2.0 * (5.0 * roundoff + width as f64 * (-24f64).exp2())
}

/// The number of visual rows.
fn visual(case: &Case<'_>) -> usize {
    case.scorer.as_ref().map_or(0, |scorer| scorer.candidates().len())
}

/// The destination of each visual row, as a bundle says.
pub(in crate::golden) fn own(case: &Case<'_>, bundle: &Bundle) -> Option<Vec<usize>> {
    into(bundle, visual(case))
}

/// The keys of the visual rows, as a bundle says: [n_v, d_h].
fn metric(bundle: &Bundle, visual: usize) -> Option<Array2<f64>> {
    let name = Stage::layer(Site::Metric, 0).name();
    let keys = bundle.get(&name).and_then(|_| bundle.f64(&name).ok()).map(ArrayD::into_dimensionality::<Ix2>)?.ok()?;
    (keys.nrows() == visual && keys.iter().all(|v| v.is_finite())).then_some(keys)
}

/// The dominant ones of the visual rows that stay. got: those that stay, as indices; visual: the prompt rows of all.
///
/// # Errors
/// The reason why the rows that stay do not follow from those that are merged, or why that is not known.
pub(super) fn dominant(case: &Case<'_>, got: &[usize], visual: &[usize]) -> Result<Vec<usize>, (Outcome, String)> {
    let Some(into) = own(case, case.candidate) else {
        let name = Stage::layer(Site::Into, 0).name();
        return Err((Outcome::NotJudged, format!("{name}, which says which rows are merged, is not in the bundle")));
    };
    let stays = |v: usize| got.binary_search(&v).is_ok();
    if let Some(v) = (0..into.len()).find(|&v| into[v] != NOWHERE && stays(v) != (into[v] == v)) {
        let what =
            if stays(v) { "is left, and it was merged into another row" } else { "was dropped, and it is a target" };
        return Err((Outcome::Fail, format!("row {} {what}", visual[v])));
    }
    Ok(got.iter().copied().filter(|&v| into[v] == NOWHERE).collect())
}

/// Judges the destinations of visual rows.
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str) -> StageVerdict {
    let plain = |outcome, words: String| StageVerdict::plain(name, outcome, words);
    let Some(scorer) = case.scorer.as_ref().filter(|_| case.policy.is_some()) else {
        return plain(Outcome::NotJudged, "the policy or the roles are not known".into());
    };
    let at_zero = Stage::parse(name).is_some_and(|at| at.layer == 0);
    let Some(cut) = case.cuts().first().copied().filter(|cut| cut.by == Rater::Zip && at_zero) else {
        return plain(Outcome::Fail, "the policy merges no rows before this layer".into());
    };
    let rows = scorer.candidates();
    if let Some(fail) = case.misfit(name, &[rows.len()]) {
        return fail;
    }
    if case.candidate.i64(name).is_err() {
        return not_integers(case, name);
    }
    let Some(got) = own(case, case.candidate) else {
        return plain(Outcome::Fail, "a row goes into a row that is no target".into());
    };
    if own(case, case.golden).is_some_and(|ours| ours == got) {
        return plain(Outcome::Pass, String::new());
    }
    let Some(keys) = metric(case.candidate, rows.len()) else {
        let keys = Stage::layer(Site::Metric, 0).name();
        return plain(Outcome::NotJudged, format!("{keys}, from which the destinations follow, is not in the bundle"));
    };
    let keyed = keyed(keys.view());
    let others: Vec<usize> = (0..got.len()).filter(|&v| got[v] != NOWHERE).collect();
    if let Some(&v) = others.iter().find(|&&v| !keyed[v]) {
        return plain(Outcome::Fail, format!("row {} is merged, and it has no key", rows[v]));
    }
    let all = keyed.iter().filter(|&&keyed| keyed).count();
    let count = contextual(cut.keep, all);
    let due = if count == 0 { 0 } else { all - (cut.keep - count) };
    if others.len() != due {
        return plain(Outcome::Fail, format!("{} rows are merged or targets, {due} are due", others.len()));
    }
    let targets = targets(&others, count);
    let own_targets: Vec<usize> = others.iter().copied().filter(|&v| got[v] == v).collect();
    if let Some((t, due)) = own_targets.iter().zip(&targets).find(|(t, due)| t != due) {
        return plain(Outcome::Fail, format!("row {} is a target, row {} is due", rows[*t], rows[*due]));
    }
    if own_targets.len() != targets.len() {
        return plain(Outcome::Fail, format!("{} targets, {} are due", own_targets.len(), targets.len()));
    }
    let directions = Directions::new(keys.view(), Grid::Native);
    let (margin, mut worst) = (margin(roundoff(case.precision), keys.ncols()), None::<(f64, usize, usize)>);
    for &v in others.iter().filter(|&&v| got[v] != v) {
        let far = directions.distances(v);
        let best = targets.iter().copied().reduce(|best, t| if far[t] < far[best] { t } else { best });
        let gap = best.map_or(0.0, |best| far[got[v]] - far[best]);
        if gap > worst.map_or(0.0, |(gap, ..)| gap) {
            worst = best.map(|best| (gap, v, best));
        }
    }
    let Some((gap, v, best)) = worst else { return plain(Outcome::Pass, String::new()) };
    let again = || destinations(keys.mapv(|k| k as f32).view(), &others, count, case.precision.grid());
    let outcome = if gap <= margin || again() == got { Outcome::Admissible } else { Outcome::Fail };
    let words = format!(
        "row {} is more like row {} than like row {}, into which it is merged: gap {gap:.0e}, noise {margin:.0e}",
        rows[v], rows[best], rows[got[v]]
    );
    plain(outcome, words).by("margin", gap, margin, 1.0)
}
