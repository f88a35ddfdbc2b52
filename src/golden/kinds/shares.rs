//! Judges the layers' statistics of importances, and the budgets that follow from them.

use super::integers::{self, not_integers};
use crate::golden::case::Case;
use crate::golden::given::{importance, vector};
use crate::golden::measure::Layout;
use crate::golden::noise;
use crate::golden::rulers::{roundoff, shown};
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::{Budget, LayerScores, over_sets, skewness, strength};
use crate::stage::{Site, Stage};

/// The allowed error of a statistic of importances, in rulers. Spec: T10.3
const STATISTIC: f64 = 3.0;

/// The relative error of a statistic over n importances: a few stores and four sums of n numbers in f32. Spec: E10.8
fn statistic_ruler(case: &Case<'_>, values: &[f64], n: usize) -> f64 {
    4.0 * roundoff(shown(case.precision, values)) + 4.0 * (n as f64).sqrt() * (-24f64).exp2()
}

/// Judges strengths and skewnesses: from the candidate's own importances if it has them, else from the golden's.
pub(in crate::golden) fn statistics(case: &Case<'_>, at: Stage, name: &str) -> StageVerdict {
    let Some(ours) = vector(case.golden, name) else {
        return StageVerdict::plain(name, Outcome::NotJudged, "the golden does not have this stage");
    };
    let Some(got) = vector(case.candidate, name) else {
        return StageVerdict::plain(name, Outcome::Fail, "expected finite numbers");
    };
    if let Some(fail) = case.misfit(name, &[ours.len()]) {
        return fail;
    }
    let f = if at.site == Site::Skewness { skewness } else { strength };
    let own = |l: usize| case.sets(l).and_then(|(_, sets)| importance(case.candidate, l, sets));
    let layout = Layout::of(name, &[ours.len()]);
    let noise = noise::read(case.golden, case.precision, name, layout);
    let mut worst = (0, 0.0, f64::MIN_POSITIVE, 0.0);
    for l in 0..ours.len() {
        let (expected, n, noise) = match own(l) {
            Some(importance) => (over_sets(&importance, f), importance.ncols(), 0.0),
            None if (0..ours.len()).all(|l| case.same_window(l)) => {
                (ours[l], 1, noise.as_ref().map_or(0.0, |n| n.rows[0][1]))
            }
            None => {
                return StageVerdict::plain(name, Outcome::NotJudged, "computed with another window than the golden's");
            }
        };
        let ruler = (statistic_ruler(case, &got, n) * expected.abs()).max(noise).max(f64::MIN_POSITIVE);
        let error = (got[l] - expected).abs();
        if error / ruler > worst.1 / worst.2 || l == 0 {
            worst = (l, error, ruler, expected);
        }
    }
    let (l, error, ruler, expected) = worst;
    let fails = error > STATISTIC * ruler;
    let words = if fails { format!("layer {l}, not what its importances give") } else { String::new() };
    let outcome = if fails { Outcome::Fail } else { Outcome::Pass };
    StageVerdict::plain(name, outcome, words).by("element", error, ruler, STATISTIC).at(vec![l], expected, got[l])
}

/// Every layer's scores, from the candidate if it has them, else from the golden; and the relative margin of each.
fn layers(case: &Case<'_>) -> Option<Vec<(LayerScores, f64)>> {
    let count = vector(case.golden, &Stage::once(Site::Strength).name())?.len();
    let of = |name: &str| vector(case.candidate, name).filter(|v| v.len() == count);
    let golden = |name: &str| vector(case.golden, name).filter(|v| v.len() == count);
    let noisy = |name: &str, l: usize| {
        let layout = Layout::of(name, &[count]);
        let noise = noise::read(case.golden, case.precision, name, layout).map_or(0.0, |n| n.rows[0][1]);
        golden(name).map_or(0.0, |v| noise / v[l].abs().max(f64::MIN_POSITIVE))
    };
    (0..count)
        .map(|l| {
            let (_, sets) = case.sets(l)?;
            let own = importance(case.candidate, l, sets);
            let has_own = own.is_some();
            let importance = own.or_else(|| importance(case.golden, l, sets))?;
            let value = |name: &str, f: fn(&[f64]) -> f64| match (of(name), has_own) {
                (Some(v), _) => (v[l], statistic_ruler(case, &v, 1)),
                (None, true) => (over_sets(&importance, f), statistic_ruler(case, &[], importance.ncols())),
                (None, false) => (golden(name).map_or(0.0, |v| v[l]), noisy(name, l)),
            };
            let (s, k) = (
                value(&Stage::once(Site::Strength).name(), strength),
                value(&Stage::once(Site::Skewness).name(), skewness),
            );
            let scores = LayerScores {
                kv_heads: sets,
                window: vec![vec![]; sets],
                importance,
                strength: s.0,
                skewness: k.0,
                density: 1.0,
            };
            Some((scores, STATISTIC * s.1.max(k.1)))
        })
        .collect()
}

/// Judges budgets: the rule applied to the strengths and skewnesses. Spec: E10.6
pub(in crate::golden) fn budget(case: &Case<'_>, name: &str) -> StageVerdict {
    let Ok(got) = case.candidate.i64(name) else { return not_integers(case, name) };
    let (Some(scorer), Some((policy, retain)), Some(layers)) = (&case.scorer, &case.policy, layers(case)) else {
        return integers::judge(case, name);
    };
    if matches!(policy.budget, Budget::Sparsity { .. }) {
        return integers::judge(case, name);
    }
    if let Some(fail) = case.misfit(name, &[layers.len()]) {
        return fail;
    }
    let (scores, margin): (Vec<LayerScores>, Vec<f64>) = layers.into_iter().unzip();
    let ours = scorer.budget(*retain, &scores);
    let got: Vec<i64> = got.iter().copied().collect();
    let same = |ours: &[usize]| ours.iter().zip(&got).all(|(&a, &b)| a as i64 == b);
    let Some(l) = (0..got.len()).find(|&l| ours[l] as i64 != got[l]) else {
        return StageVerdict::plain(name, Outcome::Pass, "");
    };
    let moved: Vec<LayerScores> = scores
        .iter()
        .enumerate()
        .map(|(l, s)| {
            let factor = 1.0 + margin[l] * (got[l] - ours[l] as i64).signum() as f64;
            LayerScores { strength: s.strength * factor, skewness: s.skewness * factor, ..s.clone() }
        })
        .collect();
    let at = |v: StageVerdict| v.at(vec![l], ours[l] as f64, got[l] as f64);
    if same(&scorer.budget(*retain, &moved)) {
        let words = format!("layer {l} has {} of {}: within the noise of strengths and skewnesses", got[l], ours[l]);
        return at(StageVerdict::plain(name, Outcome::Admissible, words));
    }
    let total: i64 = got.iter().sum();
    let due = ours.iter().sum::<usize>();
    let words = if total == due as i64 {
        format!("layer {l} has {} of {}", got[l], ours[l])
    } else {
        format!("{total} entries in all, {due} are due")
    };
    at(StageVerdict::plain(name, Outcome::Fail, words))
}
