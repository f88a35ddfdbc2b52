//! Judges rows that stay because they are far from each other: the greedy choice is made again in f64 from the
//! candidate's own rows, and each of its rows has to be the farthest within the roundoff of distances. Spec: C9.10b

use crate::golden::case::Case;
use crate::golden::rulers::roundoff;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::num::Grid;
use crate::policy::{Directions, Farthest, spread};
use crate::stage::{Site, Stage};
use ndarray::{ArrayD, Ix2};

/// How far two distances of rows may be from each other and still stand in the other order. width: numbers of a row.
/// Spec: C9.10b
fn margin(roundoff: f64, width: usize) -> f64 {
    2.0 * (7.0 * roundoff + width as f64 * (-24f64).exp2())
}

/// Judges the visual rows that stay. visual: all visual rows; kept: those that stay. Spec: C9.10b
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str, visual: &[usize], kept: &[usize]) -> StageVerdict {
    let plain = |outcome, words: String| StageVerdict::plain(name, outcome, words);
    let projected = Stage::once(Site::Projected).name();
    let known = case.candidate.get(&projected).and_then(|_| case.candidate.f64(&projected).ok());
    let rows = known.map(ArrayD::into_dimensionality::<Ix2>).and_then(Result::ok);
    let Some(rows) = rows.filter(|rows| rows.nrows() == visual.len()) else {
        return plain(
            Outcome::NotJudged,
            format!("{projected}, from which the distances follow, is not in the bundle"),
        );
    };
    let stays: Vec<bool> = visual.iter().map(|row| kept.binary_search(row).is_ok()).collect();
    let own = || (0..visual.len()).filter(|&v| stays[v]);
    let directions = Directions::new(rows.view(), Grid::Native);
    let mut far = Farthest::new(&directions, directions.nearest());
    let (margin, mut worst) = (margin(roundoff(case.precision), rows.ncols()), None::<(f64, usize, usize)>);
    for _ in kept {
        let pair = far.farthest(|_| true).zip(far.farthest(|v| stays[v]));
        let Some((best, got)) = pair else { break };
        let gap = far.far[best] - far.far[got];
        if gap > worst.map_or(0.0, |(gap, ..)| gap) {
            worst = Some((gap, best, got));
        }
        far.next(|v| stays[v]);
    }
    let Some((gap, best, got)) = worst else { return plain(Outcome::Pass, String::new()) };
    // Of rows that are nearly equally far, another order may lead to other rows.
    let again = || spread(rows.mapv(|v| v as f32).view(), kept.len(), case.precision.grid()).1;
    let outcome = if gap <= margin || own().eq(again()) { Outcome::Admissible } else { Outcome::Fail };
    let words = format!(
        "row {} is farther from the rows chosen before it than row {}: gap {gap:.0e}, noise {margin:.0e}",
        visual[best], visual[got]
    );
    plain(outcome, words).by("margin", gap, margin, 1.0)
}
