//! Judges kept sets: the most important entries, within the margin.

use super::decide::decide;
use super::integers::{self, not_integers};
use super::scores::{self, Unknown};
use super::shares;
use crate::golden::case::{Case, Counts};
use crate::golden::parsed::{importance, kept, mean};
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::{Evict, Split, ranking};
use crate::stage::{Site, Stage};
use ndarray::{Array2, ArrayView1};

/// Judges a recorded kept set. Spec: E10.6
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str, l: usize) -> StageVerdict {
    let (Some((_, sets)), Some(scorer)) = (case.sets(l), &case.scorer) else { return integers::equal(case, name) };
    match kept(case.candidate, name, sets, scorer.candidates().len()) {
        Some(got) => judge_sets(case, name, l, &got),
        None => not_integers(case, name),
    }
}

/// Whether a kept set depends on the order of all importances, and honest noise could change this order. Spec: E9.21
fn order_is_open(case: &Case<'_>, importance: &Array2<f64>, margin: &Array2<f64>) -> bool {
    let slips = case.policy.as_ref().is_some_and(|(policy, _)| policy.evict == Evict::ElasticCode);
    let close = |(row, margin): (ArrayView1<'_, f64>, ArrayView1<'_, f64>)| {
        let order = ranking(&row.to_vec());
        order.windows(2).any(|pair| row[pair[0]] - row[pair[1]] <= margin[pair[0]] + margin[pair[1]])
    };
    slips && importance.outer_iter().zip(margin.outer_iter()).any(close)
}

/// What the rule keeps of a layer of `b` entries.
pub(in crate::golden) fn decided(case: &Case<'_>, l: usize, b: usize) -> Option<Vec<Vec<usize>>> {
    decide(case, l, b, &scores::importances(case, l).ok()?.0)
}

/// The truth's kept sets of a layer, if the rule looks at no numbers.
fn unattended(case: &Case<'_>, l: usize) -> Option<Result<Vec<Vec<usize>>, Unknown>> {
    let (scorer, (_, sets)) = case.scorer.as_ref().zip(case.sets(l).filter(|(policy, _)| !policy.measures()))?;
    let name = Stage::layer(Site::Kept, l).name();
    Some(kept(case.golden, &name, sets, scorer.candidates().len()).ok_or("the golden does not have this kept set"))
}

/// The kept sets of a layer, if no honest noise could change them.
pub(in crate::golden) fn firm(case: &Case<'_>, l: usize) -> Result<Vec<Vec<usize>>, Unknown> {
    let unknown = "the kept entries are not recorded, and honest noise could change them";
    if let Some(ours) = unattended(case, l) {
        return ours;
    }
    let recorded = case.budgets().and_then(|b| b.get(l).copied());
    let b = match recorded {
        Some(b) => b,
        None => *shares::firm(case)?.get(l).ok_or(unknown)?,
    };
    let (importance, margin) = scores::importances(case, l)?;
    let ours = decide(case, l, b, &importance).ok_or(unknown)?;
    if order_is_open(case, &importance, &margin) {
        return Err(unknown);
    }
    let mut moved = importance;
    for (set, kept) in ours.iter().enumerate() {
        for i in 0..moved.ncols() {
            let sign = if kept.binary_search(&i).is_ok() { -1.0 } else { 1.0 };
            moved[[set, i]] += sign * margin[[set, i]];
        }
    }
    (decide(case, l, b, &moved).as_ref() == Some(&ours)).then_some(ours).ok_or(unknown)
}

/// Judges the kept sets of a layer, recorded or shown by its cache: they have to hold the most important entries,
/// within the margin, and as many as the layer's budget. Spec: E10.6
pub(in crate::golden) fn judge_sets(case: &Case<'_>, name: &str, l: usize, got: &[Vec<usize>]) -> StageVerdict {
    let plain = |outcome, words: String| StageVerdict::plain(name, outcome, words);
    if case.golden_keeps(l, got) {
        return plain(Outcome::Pass, String::new());
    }
    match unattended(case, l) {
        Some(Ok(ours)) if ours == got => return plain(Outcome::Pass, String::new()),
        Some(Ok(_)) => return plain(Outcome::Fail, "other entries than the rule keeps".into()),
        Some(Err(why)) => return plain(Outcome::NotJudged, why.into()),
        None => {}
    }
    let Some(b) = mean(got) else {
        return plain(Outcome::Fail, "the heads of the layer keep no whole number each in the mean".into());
    };
    let mut admissible = String::new();
    match case.budgets() {
        Some(budgets) => {
            if let Some(&due) = budgets.get(l).filter(|&&due| due != b) {
                return plain(Outcome::Fail, format!("{b} kept, the budget is {due}"));
            }
        }
        None => match case.counted() {
            Counts::Same => {}
            Counts::Moved(ours) | Counts::Other(ours) if ours.get(l) == Some(&b) => {}
            Counts::Moved(ours) => {
                let due = ours.get(l).copied().unwrap_or(0);
                admissible = format!("{b} kept, {due} are due: within the noise of the layers' scores");
            }
            Counts::Other(ours) => {
                return plain(Outcome::Fail, format!("{b} kept, {} are due", ours.get(l).copied().unwrap_or(0)));
            }
            Counts::Unknown(why) => return plain(Outcome::NotJudged, (*why).into()),
        },
    }
    let (importance, margin) = match scores::importances(case, l) {
        Ok(known) => known,
        Err(why) => return plain(Outcome::NotJudged, why.into()),
    };
    let decide = |importance: &Array2<f64>| decide(case, l, b, importance).unwrap_or_default();
    let ours = decide(&importance);
    if ours == got {
        let outcome = if admissible.is_empty() { Outcome::Pass } else { Outcome::Admissible };
        return plain(outcome, admissible);
    }
    if order_is_open(case, &importance, &margin) {
        return plain(Outcome::NotJudged, "honest noise could change the order of the importances".into());
    }
    let mut moved = importance.clone();
    // Tokens compete within their set, or with those of all heads (D9.7).
    let together = case.sets(l).is_some_and(|(policy, _)| matches!(policy.split, Split::Ada { .. }));
    let mut places: Vec<[Vec<[usize; 2]>; 2]> = vec![];
    for (set, (ours, got)) in ours.iter().zip(got).enumerate() {
        let only = |a: &[usize], b: &[usize]| -> Vec<[usize; 2]> {
            a.iter().filter(|x| b.binary_search(x).is_err()).map(|&x| [set, x]).collect()
        };
        let (extra, lost) = (only(got, ours), only(ours, got));
        extra.iter().for_each(|&at| moved[at] += margin[at]);
        lost.iter().for_each(|&at| moved[at] -= margin[at]);
        match places.last_mut().filter(|_| together) {
            Some([all_extra, all_lost]) => (all_extra.extend(extra), all_lost.extend(lost)),
            None => (places.push([extra, lost]), ()),
        };
    }
    let swap = |[extra, lost]: &[Vec<[usize; 2]>; 2]| {
        let least = |at: &[[usize; 2]], sign: f64| {
            at.iter().copied().min_by(|&a, &b| (sign * importance[a]).total_cmp(&(sign * importance[b])))
        };
        let (low, high) = least(extra, 1.0).zip(least(lost, -1.0))?;
        Some((importance[high] - importance[low], high[1], low[1], margin[high] + margin[low], extra.len()))
    };
    let swaps: Vec<_> = places.iter().filter_map(swap).collect();
    let Some(&(gap, high, low, noise, _)) = swaps.iter().max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return plain(Outcome::Fail, "another number of tokens is kept".into());
    };
    let outcome = if decide(&moved) == got { Outcome::Admissible } else { Outcome::Fail };
    let count: usize = swaps.iter().map(|s| s.4).sum();
    let words = format!(
        "{count} of {} kept tokens differ; token {high} and {low} swapped: gap {gap:.0e}, noise {noise:.0e}",
        b * got.len()
    );
    plain(outcome, words).by("margin", gap, noise.max(f64::MIN_POSITIVE), 1.0)
}

/// Ties that all go the wrong way are a rule, not noise, where chance would do so less often than once in 2 to this
/// power. Spec: E10.12
const CHANCE: f64 = 30.0;

/// The failure of a candidate whose equal importances always keep the later tokens: of a single tie nobody can say
/// whether the numbers were equal before they were stored, but of all of them. Spec: E10.12
pub(in crate::golden) fn late_ties(case: &Case<'_>) -> Option<StageVerdict> {
    let (mut bits, mut tokens, mut first) = (0.0, 0, None);
    for l in 0..case.layers()? {
        let (_, sets) = case.sets(l)?;
        let (Some(own), Some(got)) = (importance(case.candidate, l, sets), case.shown_sets(l)) else { continue };
        for (row, got) in own.outer_iter().zip(&got) {
            let keeps = |i: &usize| got.binary_search(i).is_ok();
            let Some(least) = got.iter().filter_map(|&i| row.get(i)).copied().reduce(f64::min) else { continue };
            let tied: Vec<usize> = (0..row.len()).filter(|&i| row[i] == least).collect();
            let kept = tied.iter().filter(|&i| keeps(i)).count();
            if kept == tied.len() {
                continue;
            }
            if !tied[tied.len() - kept..].iter().all(keeps) {
                return None;
            }
            // One of the C(tied, kept) choices that chance has.
            bits += (1..=kept).map(|k| ((tied.len() - kept + k) as f64 / k as f64).log2()).sum::<f64>();
            tokens += kept;
            first = first.or(Some(l));
        }
    }
    let name = Stage::layer(Site::Kept, first?).name();
    let words = format!(
        "of equal importances the later tokens are kept, {tokens} tokens in all; ties go to the lower index (A8.10)"
    );
    (bits > CHANCE).then(|| StageVerdict::plain(&name, Outcome::Fail, words))
}
