//! Judges kept sets: the most important entries, within the margin.

use super::integers::{self, not_integers};
use crate::golden::case::Case;
use crate::golden::given::{importance, kept, window};
use crate::golden::measure::{Errors, Layout};
use crate::golden::noise;
use crate::golden::rulers::{margins, roundoff, shown};
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::LayerScores;
use crate::stage::{Site, Stage};
use ndarray::Array2;

/// Judges a kept set: it has to hold the most important entries, within the margin. Spec: E10.6
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str, l: usize) -> StageVerdict {
    let (Some((_, sets)), Some(scorer)) = (case.sets(l), &case.scorer) else { return integers::judge(case, name) };
    let Some(got) = kept(case.candidate, name, sets, scorer.candidates().len()) else {
        return not_integers(case, name);
    };
    let own = importance(case.candidate, l, sets);
    let golden = importance(case.golden, l, sets);
    let Some(importance) = own.as_ref().or(golden.as_ref()).filter(|i| i.ncols() == scorer.candidates().len()) else {
        return integers::judge(case, name);
    };
    let due = case.candidate.i64(&Stage::once(Site::Budget).name()).ok().and_then(|b| b.iter().nth(l).copied());
    let b = got[0].len();
    if let Some(due) = due.filter(|&due| due != b as i64) {
        return StageVerdict::plain(name, Outcome::Fail, format!("{b} kept, the budget is {due}"));
    }
    let others = case.golden.get(name).map(|t| t.shape.last().copied().unwrap_or(0));
    if due.is_none() && own.is_none() && others.is_some_and(|o| o != b) {
        return StageVerdict::plain(name, Outcome::Fail, format!("{b} kept, {} are due", others.unwrap_or(0)));
    }
    // The margin of every importance: the rounding error of storing it, or the error of honest noise.
    let margin: Vec<f64> = match (&own, &golden) {
        (Some(own), _) => {
            let u = roundoff(shown(case.precision, own.as_slice().unwrap_or_default()));
            own.outer_iter().map(|row| 2.0 * u * row.iter().fold(0.0f64, |m, v| m.max(v.abs()))).collect()
        }
        (None, Some(golden)) => {
            let stage = Stage::layer(Site::Importance, l).name();
            let shape = case.golden.get(&stage).map(|t| t.shape.to_vec()).unwrap_or_default();
            let layout = Layout::of(&stage, &shape);
            let noise =
                noise::read(case.golden, case.precision, &stage, layout).unwrap_or_else(|| Errors::none(layout));
            margins(&stage, &shape, golden.as_slice().unwrap_or_default(), &noise, case.precision)
        }
        (None, None) => vec![0.0; sets],
    };
    // Votes come from the candidate's own windows, if it stores windows.
    let votes = case.rows().and_then(|n| window(case.candidate, &Stage::layer(Site::Window, l).name(), sets, n));
    let votes =
        votes.or_else(|| case.rows().and_then(|n| window(case.golden, &Stage::layer(Site::Window, l).name(), sets, n)));
    let layer = |importance: Array2<f64>| LayerScores {
        kv_heads: sets,
        window: votes.clone().unwrap_or_else(|| vec![vec![]; sets]),
        importance,
        strength: 0.0,
        skewness: 0.0,
        density: 1.0,
    };
    let decide = |i: &Array2<f64>| {
        scorer.keep(vec![b], &[layer(i.clone())]).decisions.map(|d| d.kept[0].clone()).unwrap_or_default()
    };
    let ours = decide(importance);
    if ours == got {
        return StageVerdict::plain(name, Outcome::Pass, "");
    }
    let mut moved = importance.clone();
    let mut swaps = vec![];
    for (set, (ours, got)) in ours.iter().zip(&got).enumerate() {
        let only = |a: &[usize], b: &[usize]| -> Vec<usize> {
            a.iter().copied().filter(|x| b.binary_search(x).is_err()).collect()
        };
        let (extra, lost) = (only(got, ours), only(ours, got));
        extra.iter().for_each(|&x| moved[[set, x]] += margin[set]);
        lost.iter().for_each(|&x| moved[[set, x]] -= margin[set]);
        let least = |tokens: &[usize], sign: f64| {
            tokens
                .iter()
                .copied()
                .min_by(|&a, &b| (sign * importance[[set, a]]).total_cmp(&(sign * importance[[set, b]])))
        };
        if let (Some(low), Some(high)) = (least(&extra, 1.0), least(&lost, -1.0)) {
            swaps.push((importance[[set, high]] - importance[[set, low]], high, low, margin[set], extra.len()));
        }
    }
    let Some(&(gap, high, low, margin, count)) = swaps.iter().max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return StageVerdict::plain(name, Outcome::Fail, "another number of tokens is kept");
    };
    let outcome = if decide(&moved) == got { Outcome::Admissible } else { Outcome::Fail };
    let more = if count > 1 { format!(" ({count} in all)") } else { String::new() };
    let words = format!("token {high} and {low} swapped{more}: gap {gap:.0e}, noise {:.0e}", 2.0 * margin);
    StageVerdict::plain(name, outcome, words).by("margin", gap, (2.0 * margin).max(f64::MIN_POSITIVE), 1.0)
}
