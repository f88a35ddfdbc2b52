//! Judges generated tokens, and decides which decode steps can be compared: only steps after the same prefix.

use super::integers::not_integers;
use crate::golden::Bundle;
use crate::golden::case::Case;
use crate::golden::measure::{Errors, Layout};
use crate::golden::noise;
use crate::golden::rulers::{margins, roundoff};
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::stage::{Phase, Site, Stage};

/// Why a decode step cannot be compared with the golden's step; none if it can be compared. Spec: C10.5a
pub(in crate::golden) fn other_prefix(case: &Case<'_>, t: usize) -> Option<&'static str> {
    if case.ground.is_some() {
        return None; // a replay fed the candidate's own tokens from the candidate's own cache
    }
    let differs = |name: &str| match (case.golden.i64(name), case.candidate.get(name)) {
        (Ok(ours), Some(_)) => case.candidate.i64(name).map_or(true, |got| got != ours),
        _ => false,
    };
    if (0..)
        .map(|l| Stage::layer(Site::Kept, l).name())
        .take_while(|n| case.golden.get(n).is_some())
        .any(|n| differs(&n))
    {
        return Some("the kept entries differ from the golden's; a replay (--model) judges this stage");
    }
    let (ours, got) = (
        case.golden.i64(&Stage::once(Site::OutputIds).name()).ok()?,
        case.candidate.i64(&Stage::once(Site::OutputIds).name()).ok()?,
    );
    let fed = |ids: &ndarray::ArrayD<i64>| ids.iter().take(t + 1).copied().collect::<Vec<_>>();
    (fed(&ours) != fed(&got)).then_some("the fed token differs from the golden's; a replay (--model) judges this stage")
}

/// The logits from which token t is chosen.
fn logits(t: usize) -> Stage {
    if t == 0 { Phase::Prefill } else { Phase::Step(t - 1) }.logits()
}

/// The largest difference between two logits of a stage at which honest noise could swap their order.
fn margin(case: &Case<'_>, stage: Stage, truth: &[f64]) -> f64 {
    let (name, shape) = (stage.name(), [truth.len()]);
    let layout = Layout::of(&name, &shape);
    let noise = noise::read(case.golden, case.precision, &name, layout).unwrap_or_else(|| Errors::none(layout));
    2.0 * margins(&name, &shape, truth, &noise, case.precision).first().copied().unwrap_or(0.0)
}

/// Judges tokens: each token has to be the greatest of its own logits. If it differs from the golden's token, noise has
/// to be able to close the gap. Spec: E10.6
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str) -> StageVerdict {
    let Ok(got) = case.candidate.i64(name) else { return not_integers(case, name) };
    let got: Vec<i64> = got.iter().copied().collect();
    for (t, &token) in got.iter().enumerate() {
        let stage = logits(t);
        let numbers = |b: &Bundle| -> Option<Vec<f64>> {
            b.get(&stage.name()).and_then(|_| b.f64(&stage.name()).ok()).map(|all| all.into_iter().collect())
        };
        // The candidate's own logits decide. If it has none, a replay uses the logits computed from the candidate's own
        // values.
        let own = numbers(case.candidate);
        let truth = || numbers(case.golden).filter(|_| case.ground.as_ref().is_some_and(|g| g.reaches(stage)));
        let (Some(all), margin) = (match &own {
            Some(own) => {
                let most = own.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
                (Some(own.clone()), 2.0 * roundoff(case.precision) * most.abs())
            }
            None => {
                let truth = truth();
                let margin = truth.as_deref().map_or(0.0, |truth| margin(case, stage, truth));
                (truth, margin)
            }
        }) else {
            continue;
        };
        let Some(&chosen) = usize::try_from(token).ok().and_then(|token| all.get(token)) else {
            let words = format!("token {t} is {token}, beyond the vocabulary of {}", all.len());
            return StageVerdict::plain(name, Outcome::Fail, words);
        };
        let (best, most) =
            all.iter().enumerate().fold((0, f64::NEG_INFINITY), |m, (i, &v)| if v > m.1 { (i, v) } else { m });
        if most - chosen > margin {
            let whose = if own.is_some() { "of its own logits" } else { "of the logits that its own values give" };
            let words = format!("token {t} is not the greatest {whose} ({})", stage.name());
            return StageVerdict::plain(name, Outcome::Fail, words).at(vec![t], best as f64, token as f64);
        }
    }
    let Ok(ours) = case.golden.i64(name) else {
        return StageVerdict::plain(name, Outcome::Pass, "");
    };
    let ours: Vec<i64> = ours.iter().copied().collect();
    let Some(t) = ours.iter().zip(&got).position(|(a, b)| a != b) else {
        let words = if ours.len() == got.len() { "" } else { "compared up to the shorter of both" };
        return StageVerdict::plain(name, Outcome::Pass, words);
    };
    let not_comparable = t > 0 && other_prefix(case, t - 1).is_some();
    let at = logits(t).name();
    let truth = case.golden.get(&at).and_then(|_| case.golden.f64(&at).ok());
    let verdict =
        |outcome, words: String| StageVerdict::plain(name, outcome, words).at(vec![t], ours[t] as f64, got[t] as f64);
    let Some(truth) = truth.filter(|_| !not_comparable) else {
        let words = format!("token {t} differs; without its logits it cannot be judged");
        return verdict(Outcome::NotJudged, words);
    };
    let truth: Vec<f64> = truth.iter().copied().collect();
    let margin = margin(case, logits(t), &truth);
    let at = |id: i64| usize::try_from(id).ok().and_then(|i| truth.get(i).copied()).unwrap_or(f64::NAN);
    let gap = at(ours[t]) - at(got[t]);
    let words = format!("token {t}: {} for {}: gap {gap:.0e}, noise {margin:.0e}", got[t], ours[t]);
    let outcome = if gap <= margin { Outcome::Admissible } else { Outcome::Fail };
    verdict(outcome, words).by("margin", gap, margin.max(f64::MIN_POSITIVE), 1.0)
}
