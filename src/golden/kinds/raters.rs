//! Judges the text rows that rate: those that the visual rows look at more than at the mean text row, within the margin.
//! Not here: what the raters give to visual rows, which is judged as numbers.

use super::integers::not_integers;
use super::pruned::ratings;
use super::scores::Unknown;
use crate::golden::case::Case;
use crate::golden::compress::roles;
use crate::golden::held::list;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::{Rater, above_mean};
use crate::stage::{Site, Stage};

/// The rows that may rate, what the visual rows give to each, and the margin of each. Spec: C9.11b
struct Candidates {
    text: Vec<usize>,
    relevance: Vec<f64>,
    margin: Vec<f64>,
}

impl Candidates {
    fn of(case: &Case<'_>) -> Result<Candidates, Unknown> {
        let policy = case.policy.as_ref().map(|(policy, _)| policy);
        let roles = roles(case.golden).or_else(|_| roles(case.candidate)).ok();
        let text = policy.zip(roles).and_then(|(policy, roles)| policy.counted(&roles).ok());
        let text = text.ok_or("the policy or the roles are not known")?;
        let (relevance, margin) = ratings(case, Stage::once(Site::Relevance), text.len())?;
        Ok(Candidates { text, relevance, margin })
    }

    fn mean(&self, numbers: &[f64]) -> f64 {
        numbers.iter().sum::<f64>() / numbers.len() as f64
    }

    /// How far a row is from the mean, and how far honest noise may move that.
    fn gap(&self, i: usize) -> (f64, f64) {
        let gap = (self.relevance[i] - self.mean(&self.relevance)).abs();
        (gap, self.margin[i] + self.mean(&self.margin))
    }

    fn raters(&self) -> Vec<usize> {
        above_mean(&self.relevance).into_iter().map(|i| self.text[i]).collect()
    }
}

/// The rows that rate, if no honest noise could change them.
pub(in crate::golden) fn firm(case: &Case<'_>) -> Result<Vec<usize>, Unknown> {
    let known = Candidates::of(case)?;
    let clear = (0..known.text.len()).all(|i| matches!(known.gap(i), (gap, noise) if gap > noise));
    if clear {
        Ok(known.raters())
    } else {
        Err("the rows that rate are not recorded, and honest noise could change them")
    }
}

/// The candidate's raters: recorded, or those that no honest noise could change.
pub(in crate::golden) fn raters(case: &Case<'_>) -> Result<Vec<usize>, Unknown> {
    list(case.candidate, &Stage::once(Site::Raters).name()).map_or_else(|| firm(case), Ok)
}

/// Judges the recorded raters. Spec: C9.11b
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str) -> StageVerdict {
    let plain = |outcome, words: String| StageVerdict::plain(name, outcome, words);
    if case.policy.is_some() && case.scorer.is_some() && !case.cuts().iter().any(|cut| cut.by == Rater::Text) {
        return plain(Outcome::Fail, "no text row rates in this policy".into());
    }
    let Some(got) = list(case.candidate, name) else { return not_integers(case, name) };
    if case.golden_has(name, &got.iter().map(|&row| row as i64).collect::<Vec<_>>()) {
        return plain(Outcome::Pass, String::new());
    }
    let known = match Candidates::of(case) {
        Ok(known) => known,
        Err(why) => return plain(Outcome::NotJudged, why.into()),
    };
    if let Some(row) = got.iter().find(|row| known.text.binary_search(row).is_err()) {
        return plain(Outcome::Fail, format!("row {row} rates, and this row is not counted text (A8.1)"));
    }
    let ours = known.raters();
    let differs = |&i: &usize| {
        let row = &known.text[i];
        ours.binary_search(row).is_ok() != got.binary_search(row).is_ok()
    };
    let beyond = |i: usize| matches!(known.gap(i), (gap, noise) if gap > noise);
    let by_gap = |&a: &usize, &b: &usize| known.gap(a).0.total_cmp(&known.gap(b).0);
    let (wrong, excused): (Vec<usize>, Vec<usize>) = (0..known.text.len()).filter(differs).partition(|&i| beyond(i));
    let Some(i) = wrong.into_iter().max_by(by_gap).or(excused.into_iter().max_by(by_gap)) else {
        return plain(Outcome::Pass, String::new());
    };
    let (gap, noise) = known.gap(i);
    let outcome = if gap <= noise { Outcome::Admissible } else { Outcome::Fail };
    let words = format!(
        "row {} has the relevance {:.3e}, the mean is {:.3e}: gap {gap:.0e}, noise {noise:.0e}",
        known.text[i],
        known.relevance[i],
        known.mean(&known.relevance)
    );
    plain(outcome, words).by("margin", gap, noise.max(f64::MIN_POSITIVE), 1.0)
}
