//! Judges generated tokens, and decides which decode steps can be compared: only steps after the same prefix.

use super::integers::not_integers;
use crate::golden::Bundle;
use crate::golden::case::Case;
use crate::golden::given::greatest;
use crate::golden::measure::Layout;
use crate::golden::noise;
use crate::golden::rulers::{margins, roundoff};
use crate::golden::said::is_sampled;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::stage::{Phase, Site, Stage};

/// Why a stage of a decode step cannot be compared with the golden's; none if it can be compared. Spec: C10.5a
pub(in crate::golden) fn other_prefix(case: &Case<'_>, at: Stage) -> Option<&'static str> {
    if case.ground.is_some() {
        return None; // a replay fed the candidate's own tokens from the candidate's own cache
    }
    // A stage follows from the caches of its own and of earlier layers.
    let before = matches!(at.site, Site::StepQuery | Site::StepKey | Site::StepValue);
    let layers = match at.site {
        Site::StepLogits => case.layers().unwrap_or(0),
        _ => at.layer + usize::from(!before),
    };
    case.other_eviction(layers).or_else(|| other_tokens(case, at.step))
}

/// Why the tokens up to step t are not the golden's; none if they are.
fn other_tokens(case: &Case<'_>, t: usize) -> Option<&'static str> {
    (0..=t).find_map(|t| case.fed.get(t, |&t| compared(case, t).err()))
}

/// Whether the token that step t is fed is the golden's.
fn compared(case: &Case<'_>, t: usize) -> Result<(), &'static str> {
    let name = Stage::once(Site::OutputIds).name();
    let of = |bundle: &Bundle| {
        let ids = bundle.get(&name).and_then(|_| bundle.i64(&name).ok());
        ids.and_then(|ids| ids.iter().nth(t).copied()).or_else(|| greatest(bundle, t))
    };
    let golden = of(case.golden).ok_or("the golden does not say which token it fed")?;
    match of(case.candidate) {
        Some(own) if own == golden => Ok(()),
        Some(_) => Err("the fed token differs from the golden's; a replay (--model) judges this stage"),
        None if !is_sampled(case.candidate) && is_clear(case, t, golden) => Ok(()),
        None => Err("the fed token is not recorded, and honest noise could change it"),
    }
}

/// Whether no honest noise could make another token than this the greatest of the golden's logits.
fn is_clear(case: &Case<'_>, t: usize, token: i64) -> bool {
    let stage = logits(t);
    let truth: Vec<f64> = case
        .golden
        .get(&stage.name())
        .and_then(|_| case.golden.f64(&stage.name()).ok())
        .into_iter()
        .flatten()
        .collect();
    let Some(&best) = usize::try_from(token).ok().and_then(|token| truth.get(token)) else { return false };
    let Some(margin) = margin(case, stage, &truth) else { return false };
    truth.iter().enumerate().all(|(id, &v)| id as i64 == token || best - v > margin)
}

/// The logits from which token t is chosen.
fn logits(t: usize) -> Stage {
    if t == 0 { Phase::Prefill } else { Phase::Step(t - 1) }.logits()
}

/// The largest difference between two logits of a stage at which honest noise could swap their order; none without
/// noise.
fn margin(case: &Case<'_>, stage: Stage, truth: &[f64]) -> Option<f64> {
    let (name, shape) = (stage.name(), [truth.len()]);
    let noise = noise::read(case.golden, case.precision, &name, Layout::of(&name, &shape))?;
    Some(2.0 * margins(&name, &shape, truth, &noise, case.precision).first().copied().unwrap_or(0.0))
}

/// The logits that a token is held against.
struct Logits {
    all: Vec<f64>,
    margin: f64,
    whose: &'static str,
}

/// The logits of token t: the candidate's own, or else the truth's where it stands on the candidate's own values.
fn known(case: &Case<'_>, t: usize) -> Option<Logits> {
    let stage = logits(t);
    let numbers = |b: &Bundle| -> Option<Vec<f64>> {
        b.get(&stage.name()).and_then(|_| b.f64(&stage.name()).ok()).map(|all| all.into_iter().collect())
    };
    if let Some(all) = numbers(case.candidate) {
        let most = all.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
        return Some(Logits { margin: 2.0 * roundoff(case.precision) * most.abs(), all, whose: "of its own logits" });
    }
    let comparable = match &case.ground {
        Some(_) => case.reaches(stage),
        None if t == 0 => case.other_rows(stage).is_none(),
        None => other_prefix(case, stage).is_none(),
    };
    let all = numbers(case.golden).filter(|_| comparable)?;
    let whose = if case.ground.is_some() { "of the logits that its own values give" } else { "of the truth's logits" };
    Some(Logits { margin: margin(case, stage, &all)?, all, whose })
}

/// Judges tokens: each token has to be the greatest of its own logits, or of the truth's, within the margin. A token
/// that was sampled only has to be possible. Spec: E10.6
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str) -> StageVerdict {
    let Ok(got) = case.candidate.i64(name) else { return not_integers(case, name) };
    let got: Vec<i64> = got.iter().copied().collect();
    let sampled = is_sampled(case.candidate);
    let width = |b: &Bundle| b.get(&logits(0).name()).and_then(|t| t.shape.first().copied());
    let vocab = case.vocab.or_else(|| width(case.golden)).or_else(|| width(case.candidate));
    let (mut unjudged, mut differs) = (vec![], None);
    for (t, &token) in got.iter().enumerate() {
        let id = usize::try_from(token).ok().filter(|&id| vocab.is_none_or(|vocab| id < vocab));
        let Some(id) = id else {
            let words = match vocab {
                Some(vocab) => format!("token {t} is {token}, beyond the vocabulary of {vocab}"),
                None => format!("token {t} is {token}, which is no token"),
            };
            return StageVerdict::plain(name, Outcome::Fail, words).at(vec![t], f64::NAN, token as f64);
        };
        let Some(Logits { all, margin, whose }) = known(case, t) else {
            unjudged.push(t);
            continue;
        };
        let Some(&chosen) = all.get(id) else {
            let words = format!("token {t} is {token}, beyond the vocabulary of {}", all.len());
            return StageVerdict::plain(name, Outcome::Fail, words);
        };
        let (best, most) =
            all.iter().enumerate().fold((0, f64::NEG_INFINITY), |m, (i, &v)| if v > m.1 { (i, v) } else { m });
        let (at, near) = (logits(t), most - chosen <= margin);
        if sampled {
            if chosen == f64::NEG_INFINITY || chosen.is_nan() {
                let words = format!("token {t} has no probability ({at})");
                return StageVerdict::plain(name, Outcome::Fail, words).at(vec![t], best as f64, token as f64);
            }
        } else if !near {
            let words = format!("token {t} is not the greatest {whose} ({at})");
            let verdict = StageVerdict::plain(name, Outcome::Fail, words).at(vec![t], best as f64, token as f64);
            return verdict.by("margin", most - chosen, margin.max(f64::MIN_POSITIVE), 1.0);
        } else if best != id && differs.is_none() {
            let words = format!("token {t}: {token} for {best}: gap {:.0e}, noise {margin:.0e} ({at})", most - chosen);
            differs = Some((t, best, token, words));
        }
    }
    if let Some(&first) = unjudged.first() {
        let words =
            format!("{} of {} tokens, the first {first}, have no logits to be held against", unjudged.len(), got.len());
        return StageVerdict::plain(name, Outcome::NotJudged, words);
    }
    match differs {
        Some((t, best, token, words)) => {
            StageVerdict::plain(name, Outcome::Admissible, words).at(vec![t], best as f64, token as f64)
        }
        None if sampled => StageVerdict::plain(name, Outcome::Pass, "sampled: each token is possible"),
        None => StageVerdict::plain(name, Outcome::Pass, ""),
    }
}
