//! Judges the layers' statistics of importances, and the numbers of entries that layers keep, which follow from them.

use super::decide::decide;
use super::integers::{self, not_integers};
use super::scores::{self, Layer, STATISTIC, Unknown};
use crate::golden::case::{Case, Counts};
use crate::golden::parsed::{per_set, vector};
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::{Budget, LayerScores, Retain, Scorer, Split};
use crate::stage::{Site, Stage};
use ndarray::{Array2, ArrayD};

/// Judges strengths and skewnesses: from the candidate's own importances where it has them, else from the truth's.
pub(in crate::golden) fn statistics(case: &Case<'_>, at: Stage, name: &str) -> StageVerdict {
    let Some(got) = vector(case.candidate, name) else {
        return StageVerdict::plain(name, Outcome::Fail, "expected finite numbers");
    };
    if let Some(fail) = case.layers().and_then(|layers| case.misfit(name, &[layers])) {
        return fail;
    }
    let mut worst = (0, 0.0, f64::MIN_POSITIVE, 0.0);
    let mut unknown: Option<Unknown> = None;
    for (l, &value) in got.iter().enumerate() {
        match scores::statistic(case, l, at.site, &got) {
            Ok((expected, ruler)) => {
                let error = (value - expected).abs();
                if error / ruler > worst.1 / worst.2 || l == 0 {
                    worst = (l, error, ruler, expected);
                }
            }
            Err(why) => unknown = Some(why),
        }
    }
    let (l, error, ruler, expected) = worst;
    let (outcome, words) = match unknown {
        _ if error > STATISTIC * ruler => (Outcome::Fail, format!("layer {l}, not what its importances give")),
        Some(why) => return StageVerdict::plain(name, Outcome::NotJudged, why),
        None => (Outcome::Pass, String::new()),
    };
    let got = got.get(l).copied().unwrap_or(f64::NAN);
    StageVerdict::plain(name, outcome, words).by("element", error, ruler, STATISTIC).at(vec![l], expected, got)
}

/// The scores of all layers, as far as the rule needs them.
fn layers(case: &Case<'_>, rule: Budget, count: usize) -> Result<Vec<Layer>, Unknown> {
    let given = |site: Site| vector(case.candidate, &Stage::once(site).name()).filter(|v| v.len() == count);
    let (strengths, skewnesses) = (given(Site::Strength), given(Site::Skewness));
    let empty = || Layer {
        scores: LayerScores {
            kv_heads: 1,
            window: vec![vec![]],
            importance: Array2::zeros((1, 0)),
            strength: 1.0,
            skewness: 1.0,
            spread: 1.0,
            weights: vec![1.0],
        },
        importance: Array2::zeros((1, 0)),
        share: 0.0,
    };
    let one = vec![1.0; count];
    match rule {
        Budget::Full | Budget::Uniform | Budget::Pyramid { .. } => Ok((0..count).map(|_| empty()).collect()),
        Budget::Heads => {
            let why = "the policy or the roles are not known";
            let of = |l: usize| {
                let ((policy, sets), empty) = (case.sets(l).ok_or(why)?, empty());
                let weights = policy.split.weights(l, sets).map_err(|_| "the scores of heads are of another model")?;
                Ok(Layer { scores: LayerScores { weights, ..empty.scores }, ..empty })
            };
            (0..count).map(of).collect()
        }
        Budget::Sparsity { .. } | Budget::Entropy | Budget::Votes => {
            let all = scores::spreads(case, count)?.into_iter().map(|(spread, margin)| {
                let empty = empty();
                Layer { scores: LayerScores { spread, ..empty.scores }, share: margin, ..empty }
            });
            Ok(all.collect())
        }
        Budget::Prefix => (0..count)
            .map(|l| {
                let (importance, margin) = scores::importances(case, l)?;
                let empty = empty();
                let scores = LayerScores { importance, ..empty.scores };
                Ok(Layer { scores, importance: margin, share: 0.0 })
            })
            .collect(),
        // A statistic that the rule does not read is as good as any.
        Budget::Strength => (0..count).map(|l| scores::layer(case, l, [strengths.as_deref(), Some(&one)])).collect(),
        Budget::Skewness => (0..count).map(|l| scores::layer(case, l, [Some(&one), skewnesses.as_deref()])).collect(),
        Budget::Both => {
            (0..count).map(|l| scores::layer(case, l, [strengths.as_deref(), skewnesses.as_deref()])).collect()
        }
    }
}

/// A layer's scores, moved by a share of their margins, −1 … 1, so that the layer keeps more or fewer entries. kept:
/// how many it should keep.
fn moved(layer: &Layer, rule: Budget, by: f64, kept: usize) -> LayerScores {
    let factor = 1.0 + by * layer.share;
    let mut scores = LayerScores {
        strength: layer.scores.strength * factor,
        skewness: layer.scores.skewness * factor,
        spread: layer.scores.spread * factor,
        ..layer.scores.clone()
    };
    if rule == Budget::Prefix && by != 0.0 {
        // The shares before later entries fall where the first entries are less important.
        for (mut row, margin) in scores.importance.outer_iter_mut().zip(layer.importance.outer_iter()) {
            for (rank, i) in crate::policy::ranking(&row.to_vec()).into_iter().enumerate() {
                let sign = if rank < kept { -1.0 } else { 1.0 };
                row[i] = (row[i] + sign * by * margin[i]).max(0.0);
            }
        }
    }
    scores
}

/// How many steps a search takes, and its first step, in margins.
const SEARCH: (usize, f64) = (96, 1.0 / 16.0);

/// Whether the rule gives these numbers, for layers where a number is known: scores move towards the candidate, step by
/// step, and never by more than their margins. Spec: E10.6
fn search(scorer: &Scorer, retain: Retain, rule: Budget, layers: &[Layer], got: &[Option<usize>]) -> Counts {
    let budget = |by: &[f64]| {
        let each = layers.iter().zip(by).zip(got).map(|((l, &by), got)| moved(l, rule, by, got.unwrap_or(0)));
        scorer.budget(retain, &each.collect::<Vec<_>>())
    };
    let off = |ours: &[usize], l: usize| got[l].map_or(0, |got| (got as i64 - ours[l] as i64).signum());
    let mut by = vec![0.0; layers.len()];
    let ours = budget(&by);
    let all = |ours: &[usize]| (0..got.len()).all(|l| off(ours, l) == 0);
    if all(&ours) {
        return Counts::Same;
    }
    let (steps, mut step) = SEARCH;
    let mut now = ours.clone();
    for k in 1..=steps {
        let toward: Vec<i64> = (0..got.len()).map(|l| off(&now, l)).collect();
        // Layers share a total: where the known layers need more, the others have to need less.
        let rest = -toward.iter().sum::<i64>().signum();
        for (l, by) in by.iter_mut().enumerate() {
            let sign = if got[l].is_some() { toward[l] } else { rest };
            *by = (*by + sign as f64 * step).clamp(-1.0, 1.0);
        }
        now = budget(&by);
        if all(&now) {
            return Counts::Moved(ours);
        }
        if k % 24 == 0 {
            step *= 0.25;
        }
    }
    Counts::Other(ours)
}

/// What the rule says of these numbers of entries, for layers where a number is known.
pub(in crate::golden) fn counts(case: &Case<'_>, got: &[Option<usize>]) -> Counts {
    let (Some(scorer), Some((policy, retain))) = (&case.scorer, &case.policy) else {
        return Counts::Unknown("the policy or the roles are not known");
    };
    match layers(case, policy.budget, got.len()) {
        Ok(layers) => search(scorer, *retain, policy.budget, &layers, got),
        Err(why) => Counts::Unknown(why),
    }
}

/// The numbers of entries that the rule gives, if no honest noise could change them.
pub(in crate::golden) fn firm(case: &Case<'_>) -> Result<Vec<usize>, Unknown> {
    let unknown = "the policy or the roles are not known";
    let (scorer, (policy, retain)) = case.scorer.as_ref().zip(case.policy.as_ref()).ok_or(unknown)?;
    let count = case.layers().ok_or(unknown)?;
    let layers = layers(case, policy.budget, count)?;
    let budget = |by: &dyn Fn(usize) -> f64, kept: &[usize]| {
        let each: Vec<LayerScores> =
            layers.iter().zip(kept).enumerate().map(|(l, (s, &k))| moved(s, policy.budget, by(l), k)).collect();
        scorer.budget(*retain, &each)
    };
    let ours = budget(&|_| 0.0, &vec![0; count]);
    let moves = layers.iter().any(|l| l.share > 0.0 || l.importance.iter().any(|m| *m > 0.0));
    let turned =
        |one: usize| [1.0, -1.0].iter().any(|&sign| budget(&|l| if l == one { sign } else { -sign }, &ours) != ours);
    if moves && (0..count).any(turned) {
        return Err("the numbers of kept entries are not recorded, and honest noise could change them");
    }
    Ok(ours)
}

/// The verdict on how the heads of layers share their budgets, if that is not what the layers' importances give. Kept
/// sets that the candidate recorded are judged by themselves, so that their sizes are enough here. Spec: D9.7
fn heads(case: &Case<'_>, name: &str, stored: &ArrayD<i64>) -> Option<StageVerdict> {
    let plain = |outcome, words: String| Some(StageVerdict::plain(name, outcome, words));
    let mut admissible = None;
    for (l, row) in stored.outer_iter().enumerate() {
        let got: Vec<usize> = row.iter().map(|&b| b as usize).collect();
        let sizes = |sets: Vec<Vec<usize>>| sets.iter().map(Vec::len).collect::<Vec<_>>();
        if let Some(sets) = case.shown_sets(l) {
            let kept = sizes(sets);
            if kept != got {
                return plain(Outcome::Fail, format!("layer {l} has {got:?} for its heads, which keep {kept:?}"));
            }
            continue;
        }
        let (importance, margin) = match scores::importances(case, l) {
            Ok(known) => known,
            Err(why) => return plain(Outcome::NotJudged, why.into()),
        };
        let b = got.iter().sum::<usize>() / got.len().max(1);
        let ours = sizes(decide(case, l, b, &importance)?);
        if ours == got {
            continue;
        }
        let mut moved = importance;
        for (g, mut row) in moved.outer_iter_mut().enumerate() {
            let sign = (got[g] as f64 - ours[g] as f64).signum();
            row.iter_mut().zip(margin.row(g)).for_each(|(x, m)| *x = (*x + sign * m).max(0.0));
        }
        let words = format!("layer {l} has {got:?} for its heads, {ours:?} are due");
        if sizes(decide(case, l, b, &moved)?) != got {
            return plain(Outcome::Fail, words);
        }
        admissible = admissible.or(Some(format!("{words}: within the noise of the importances")));
    }
    admissible.and_then(|words| plain(Outcome::Admissible, words))
}

/// The numbers of entries that the rule gives.
pub(in crate::golden) fn due(case: &Case<'_>) -> Option<Vec<usize>> {
    let (scorer, (policy, retain)) = case.scorer.as_ref().zip(case.policy.as_ref())?;
    let layers = layers(case, policy.budget, case.layers()?).ok()?;
    let scores: Vec<LayerScores> = layers.iter().map(|layer| moved(layer, policy.budget, 0.0, 0)).collect();
    Some(scorer.budget(*retain, &scores))
}

/// Judges budgets: the rule applied to the strengths and skewnesses. Spec: E10.6
pub(in crate::golden) fn budget(case: &Case<'_>, name: &str) -> StageVerdict {
    let Ok(stored) = case.candidate.i64(name) else { return not_integers(case, name) };
    // Without a policy, or if nothing shows the number of heads, the heads are those of the golden or of the candidate.
    let split = case.policy.as_ref().is_none_or(|(policy, _)| policy.split != Split::Even);
    let told = || case.golden.get(name).map_or(stored.shape(), |ours| ours.shape).get(1).copied();
    let heads_of = |l: usize| case.sets(l).map(|(_, heads)| heads).or_else(told);
    let heads_due = if case.policy.is_some() { heads_of(0) } else { told() }.filter(|_| split);
    let shape = case.layers().map(|layers| [&[layers][..], heads_due.as_slice()].concat());
    if let Some(fail) = shape.and_then(|shape| case.misfit(name, &shape)) {
        return fail;
    }
    let mut got: Vec<i64> = stored.iter().copied().collect();
    if case.golden_has(name, &got) {
        return StageVerdict::plain(name, Outcome::Pass, "");
    }
    if heads_due.is_some() && case.policy.is_some() {
        match per_set(&stored, stored.shape()[0]) {
            Some(mean) => got = mean.into_iter().map(|b| b as i64).collect(),
            None => {
                return StageVerdict::plain(
                    name,
                    Outcome::Fail,
                    "the heads of a layer keep no whole number each in the mean",
                );
            }
        }
        if let Some(verdict) = heads(case, name, &stored) {
            return verdict;
        }
    }
    let sizes: Vec<Option<usize>> = got.iter().map(|&b| Some(usize::try_from(b).unwrap_or(usize::MAX))).collect();
    let (ours, outcome) = match counts(case, &sizes) {
        Counts::Same => return StageVerdict::plain(name, Outcome::Pass, ""),
        Counts::Unknown(_) if case.scorer.is_none() => return integers::equal(case, name),
        Counts::Unknown(why) => return StageVerdict::plain(name, Outcome::NotJudged, why),
        Counts::Moved(ours) => (ours, Outcome::Admissible),
        Counts::Other(ours) => (ours, Outcome::Fail),
    };
    let l = (0..got.len()).find(|&l| ours[l] as i64 != got[l]).unwrap_or(0);
    let total: i64 = got.iter().fold(0, |sum, &b| sum.saturating_add(b));
    let due = ours.iter().sum::<usize>();
    let words = match outcome {
        Outcome::Admissible => {
            format!("layer {l} has {} of {}: within the noise of the layers' scores", got[l], ours[l])
        }
        _ if total == due as i64 => format!("layer {l} has {} of {}", got[l], ours[l]),
        _ => format!("{total} entries in all, {due} are due"),
    };
    StageVerdict::plain(name, outcome, words).at(vec![l], ours[l] as f64, got[l] as f64)
}
