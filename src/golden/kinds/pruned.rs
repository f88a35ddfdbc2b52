//! Judges what a policy drops before the decoder or inside prefill: the rows that are left have to be the text and the
//! visual rows that got the largest votes, within the margin. Not here: which rows a candidate's layers have, and the
//! choice by distances (spread.rs), and which rows are merged (zip.rs).

use super::integers::not_integers;
use super::scores::{Unknown, hidden_by_a_store};
use super::{spread, zip};
use crate::golden::case::Case;
use crate::golden::held::list;
use crate::golden::measure::Layout;
use crate::golden::noise;
use crate::golden::parsed::{kept, vector};
use crate::golden::rulers::margins;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::{Cut, Rater, best};
use crate::stage::{Site, Stage};
use ndarray::Array2;

/// The votes of a cut, and the margin of each. Spec: C9.9d
fn votes(case: &Case<'_>, cut: Cut, count: usize) -> Result<(Vec<f64>, Vec<f64>), Unknown> {
    ratings(case, Stage::layer(Site::Votes, cut.layer), count)
}

/// The numbers by which rows are chosen, and the margin of each: the candidate's own with what a store may hide, or the
/// truth's with their noise. Spec: C9.9d
pub(super) fn ratings(case: &Case<'_>, at: Stage, count: usize) -> Result<(Vec<f64>, Vec<f64>), Unknown> {
    let name = at.name();
    if let Some(own) = vector(case.candidate, &name).filter(|own| own.len() == count) {
        let stored = hidden_by_a_store(case, &Array2::from_shape_fn((1, count), |(_, i)| own[i]));
        return Ok((own, stored.iter().map(|error| 2.0 * error).collect()));
    }
    if !case.reaches(at) {
        return Err("the stages that votes are computed from are not in the bundle");
    }
    if let Some(why) = case.other_rows(at) {
        return Err(why);
    }
    let truth = vector(case.golden, &name).filter(|truth| truth.len() == count);
    let truth = truth.ok_or("the golden does not have these votes")?;
    let noise = noise::read(case.golden, case.precision, &name, Layout::of(&name, &[count]));
    let noise = noise.ok_or("the golden has no noise of votes")?;
    let margin = margins(&name, &[count], &truth, &noise, case.precision).first().copied().unwrap_or(0.0);
    Ok((truth, vec![margin; count]))
}

/// The rows of a layer, visual rows and others.
fn split(case: &Case<'_>, rows: &[usize]) -> Result<[Vec<usize>; 2], Unknown> {
    let visual = case.scorer.as_ref().ok_or("the policy or the roles are not known")?.candidates();
    let (visual, text) = rows.iter().partition(|row| visual.binary_search(row).is_ok());
    Ok([visual, text])
}

/// The rows that are left after a cut, if no honest noise could change them.
pub(in crate::golden) fn firm(case: &Case<'_>, cut: Cut) -> Result<Vec<usize>, Unknown> {
    match cut.by {
        Rater::Diverse => return Err("the rows that are left are not recorded, and distances decide them"),
        Rater::Zip => return Err("the rows that are left are not recorded, and the rows that are merged decide them"),
        _ => {}
    }
    let [visual, mut rows] = split(case, &case.before(cut)?)?;
    let (votes, margin) = votes(case, cut, visual.len())?;
    let ours = best(&votes, cut.keep);
    let sign = |i: usize| if ours.binary_search(&i).is_ok() { -1.0 } else { 1.0 };
    let moved: Vec<f64> = votes.iter().zip(&margin).enumerate().map(|(i, (v, m))| v + sign(i) * m).collect();
    if best(&moved, cut.keep) != ours {
        return Err("the rows that are left are not recorded, and honest noise could change them");
    }
    rows.extend(ours.into_iter().map(|v| visual[v]));
    rows.sort_unstable();
    Ok(rows)
}

/// Judges the recorded rows of a cut. Spec: C9.9d
pub(in crate::golden) fn rows(case: &Case<'_>, name: &str, l: usize) -> StageVerdict {
    let plain = |outcome, words: &str| StageVerdict::plain(name, outcome, words);
    if case.policy.is_none() || case.scorer.is_none() {
        return plain(Outcome::NotJudged, "the policy or the roles are not known");
    }
    let Some(cut) = case.cuts().into_iter().find(|cut| cut.layer == l) else {
        return plain(Outcome::Fail, "the policy drops no rows before this layer");
    };
    match list(case.candidate, name) {
        Some(got) => judge(case, name, cut, &got),
        None => not_integers(case, name),
    }
}

/// Judges the rows that are left after a cut, recorded or shown by later stages.
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str, cut: Cut, got: &[usize]) -> StageVerdict {
    let plain = |outcome, words: String| StageVerdict::plain(name, outcome, words);
    if case.golden_has(name, &got.iter().map(|&row| row as i64).collect::<Vec<_>>()) {
        return plain(Outcome::Pass, String::new());
    }
    let before = match case.before(cut) {
        Ok(before) => before,
        Err(why) => return plain(Outcome::NotJudged, why.into()),
    };
    if let Some(row) = got.iter().find(|row| before.binary_search(row).is_err()) {
        return plain(Outcome::Fail, format!("row {row} is no row that was left before layer {}", cut.layer));
    }
    let (Ok([visual, text]), Ok([kept, left])) = (split(case, &before), split(case, got)) else {
        return plain(Outcome::NotJudged, "the policy or the roles are not known".into());
    };
    if let Some(row) = text.iter().find(|row| left.binary_search(row).is_err()) {
        return plain(Outcome::Fail, format!("row {row} was dropped, and this row is text"));
    }
    if kept.len() != cut.keep {
        return plain(Outcome::Fail, format!("{} visual rows are left, {} are due", kept.len(), cut.keep));
    }
    if cut.by == Rater::Diverse {
        return spread::judge(case, name, &visual, &kept);
    }
    let (votes, margin) = match votes(case, cut, visual.len()) {
        Ok(known) => known,
        Err(why) => return plain(Outcome::NotJudged, why.into()),
    };
    let mut got: Vec<usize> = kept.iter().filter_map(|row| visual.binary_search(row).ok()).collect();
    if cut.by == Rater::Zip {
        got = match zip::dominant(case, &got, &visual) {
            Ok(dominant) => dominant,
            Err((outcome, why)) => return plain(outcome, why),
        };
    }
    let cut = Cut { keep: got.len(), ..cut };
    let ours = best(&votes, cut.keep);
    let only = |a: &[usize], b: &[usize]| -> Vec<usize> {
        a.iter().copied().filter(|x| b.binary_search(x).is_err()).collect()
    };
    let (extra, lost) = (only(&got, &ours), only(&ours, &got));
    let mut moved = votes.clone();
    extra.iter().for_each(|&v| moved[v] += margin[v]);
    lost.iter().for_each(|&v| moved[v] -= margin[v]);
    let low = extra.iter().copied().min_by(|&a, &b| votes[a].total_cmp(&votes[b]));
    let high = lost.iter().copied().max_by(|&a, &b| votes[a].total_cmp(&votes[b]));
    let Some((low, high)) = low.zip(high) else { return plain(Outcome::Pass, String::new()) };
    let (gap, noise) = (votes[high] - votes[low], margin[high] + margin[low]);
    let outcome = if best(&moved, cut.keep) == got { Outcome::Admissible } else { Outcome::Fail };
    let words = format!(
        "{} of {} visual rows differ; rows {} and {} swapped: gap {gap:.0e}, noise {noise:.0e}",
        extra.len(),
        cut.keep,
        visual[high],
        visual[low]
    );
    plain(outcome, words).by("margin", gap, noise.max(f64::MIN_POSITIVE), 1.0)
}

/// The verdict on the rows that a layer shows, where the cut before the layer does not record them.
pub(in crate::golden) fn shown(case: &Case<'_>, name: &str, l: usize) -> Option<StageVerdict> {
    let cut = case.cuts().into_iter().find(|cut| cut.layer == l)?;
    let recorded = case.candidate.get(&Stage::layer(Site::Rows, l).name()).is_some();
    let rows = case.left(l).ok().filter(|_| !recorded)?;
    Some(judge(case, name, cut, &rows)).filter(|verdict| verdict.outcome != Outcome::Pass)
}

/// The visual tokens of the rows that a layer has.
fn tokens(case: &Case<'_>, l: usize) -> Result<Vec<usize>, Unknown> {
    let rows = case.left(l)?;
    let visual = case.scorer.as_ref().ok_or("the policy or the roles are not known")?.candidates();
    Ok((0..visual.len()).filter(|&v| rows.binary_search(&visual[v]).is_ok()).collect())
}

/// Judges the kept tokens of a layer: those of its rows. Spec: C9.9b
pub(in crate::golden) fn kept_tokens(case: &Case<'_>, name: &str, l: usize) -> StageVerdict {
    let plain = |outcome, words: &str| StageVerdict::plain(name, outcome, words);
    let candidates = case.scorer.as_ref().map_or(0, |scorer| scorer.candidates().len());
    let Some(got) = kept(case.candidate, name, 1, candidates) else { return not_integers(case, name) };
    match tokens(case, l) {
        Err(why) => plain(Outcome::NotJudged, why),
        Ok(due) if got[0] == due => shown(case, name, l).unwrap_or_else(|| plain(Outcome::Pass, "")),
        Ok(_) => plain(Outcome::Fail, "other tokens than those of the rows that are left in the layer"),
    }
}

/// Judges the numbers of kept tokens: as many as the layers' rows have. Spec: C9.9b
pub(in crate::golden) fn budget(case: &Case<'_>, name: &str) -> StageVerdict {
    let Ok(got) = case.candidate.i64(name) else { return not_integers(case, name) };
    let layers = case.layers().unwrap_or(0);
    if let Some(fail) = case.misfit(name, &[layers]) {
        return fail;
    }
    let cuts = case.cuts();
    let visual = case.scorer.as_ref().map_or(0, |scorer| scorer.candidates().len());
    let due = |l: usize| cuts.iter().rev().find(|cut| cut.layer <= l).map_or(visual, |cut| cut.keep) as i64;
    match got.iter().enumerate().find(|&(l, &b)| b != due(l)) {
        None => StageVerdict::plain(name, Outcome::Pass, ""),
        Some((l, &b)) => {
            let words = format!("layer {l} has {b} of {}", due(l));
            StageVerdict::plain(name, Outcome::Fail, words).at(vec![l], due(l) as f64, b as f64)
        }
    }
}
