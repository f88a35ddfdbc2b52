//! Judging what is decided, not computed: ids, windows, budgets, kept sets, tokens; and what follows from a decision.
//!
//! A decision may differ from the truth's where honest noise could have made it so. That is shown, not guessed: numbers
//! are moved by no more than their margin in the direction of the candidate, and the rule has to give what the candidate
//! has. Spec: D10.5

use super::given::window;
use super::judge::Judge;
use super::measure::{Errors, Layout};
use super::numbers::margins;
use super::verdict::{Outcome, StageVerdict};
use super::{Bundle, copies, noise, ranks, shares, tokens};
use crate::policy::{Heads, Policy, Window};
use crate::stage::{Site, Stage};

/// The verdict on a stage that is a decision or hangs on one; none for plain numbers.
pub(super) fn judge(j: &Judge<'_>, at: Stage, name: &str) -> Option<StageVerdict> {
    let l = at.layer;
    Some(match at.site {
        Site::Sizes | Site::Grid | Site::Ids | Site::Roles | Site::Positions => exact(j, name),
        Site::Window => windows(j, name, l),
        Site::Importance if !same_window(j, l) => {
            StageVerdict::plain(name, Outcome::NotJudged, "seen through another window than the golden's")
        }
        Site::Strength | Site::Skewness => shares::statistics(j, name),
        Site::Budget => shares::budget(j, name),
        Site::Kept => ranks::judge(j, name, l),
        Site::CachePositions | Site::CacheKey | Site::CacheValue => copies::judge(j, name, l),
        Site::OutputIds => tokens::judge(j, name),
        _ if at.is_step() => StageVerdict::plain(name, Outcome::NotJudged, tokens::other_prefix(j, at.step)?),
        _ => return None,
    })
}

/// What an honest program may be off by in pixels: the few operations of a normalisation, in f32. Spec: E10.7
pub(super) fn pixel_noise(layout: Layout, truth: &[f64]) -> Errors {
    let largest = truth.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let error = 4.0 * (-24f64).exp2() * largest;
    let mut noise = Errors::none(layout);
    noise.rows.fill([error, error]); // in units of 1
    noise.columns.fill(error);
    noise.whole = error;
    noise
}

/// Integers that have to be the golden's.
pub(super) fn exact(j: &Judge<'_>, name: &str) -> StageVerdict {
    let Some(ours) = j.golden.get(name) else {
        let words = if j.ground.is_some() {
            "give --image and --prompt to have it judged"
        } else {
            "the golden does not hold it"
        };
        return StageVerdict::plain(name, Outcome::NotJudged, words);
    };
    if let Some(fail) = j.misfit(name, ours.shape) {
        return fail;
    }
    match (j.golden.i64(name), j.candidate.i64(name)) {
        (Ok(ours), Ok(got)) => {
            let off = ours.indexed_iter().zip(&got).find(|((_, a), b)| a != b);
            match off {
                None => StageVerdict::plain(name, Outcome::Pass, ""),
                Some(((at, a), b)) => {
                    let count = ours.iter().zip(&got).filter(|(a, b)| a != b).count();
                    let words = format!("{count} of {} differ", got.len());
                    StageVerdict::plain(name, Outcome::Fail, words).at(
                        ndarray::Dimension::slice(&at).to_vec(),
                        *a as f64,
                        *b as f64,
                    )
                }
            }
        }
        _ => not_integers(j, name),
    }
}

pub(super) fn not_integers(j: &Judge<'_>, name: &str) -> StageVerdict {
    let dtype = j.candidate.get(name).map_or("?".into(), |t| t.dtype.to_string());
    StageVerdict::plain(name, Outcome::Fail, format!("stored as {dtype}, or not as ascending rows; expected integers"))
}

/// Kept sets, and the policy.
pub(super) fn sets(j: &Judge<'_>, l: usize) -> Option<(Policy, usize)> {
    let policy = j.policy?.0;
    let key = j.golden.get(&format!("decoder.{l:02}.key")).or_else(|| j.candidate.get(&format!("decoder.{l:02}.key")));
    let importance = j.golden.get(&format!("policy.{l:02}.importance"));
    let sets = match policy.heads {
        Heads::Kv => key.map(|k| k.shape[0]).or(importance.map(|i| i.shape[0]))?,
        _ => 1,
    };
    Some((policy, sets))
}

pub(super) fn rows(j: &Judge<'_>) -> Option<usize> {
    let of = |b: &Bundle| b.get("input.roles").and_then(|t| t.shape.first().copied());
    of(j.golden).or_else(|| of(j.candidate))
}

/// Whether importances of a layer are seen through the same window in both; in a replay they are by construction.
pub(super) fn same_window(j: &Judge<'_>, l: usize) -> bool {
    let name = format!("policy.{l:02}.window");
    if j.ground.is_some() || j.candidate.get(&name).is_none() {
        return true;
    }
    matches!((j.golden.i64(&name), j.candidate.i64(&name)), (Ok(a), Ok(b)) if a == b)
}

/// A window: who is in it has to reach the threshold, within the margin. Spec: E10.6
fn windows(j: &Judge<'_>, name: &str, l: usize) -> StageVerdict {
    let Some(((policy, sets), n)) = sets(j, l).zip(rows(j)) else { return exact(j, name) };
    if j.golden.get(name).is_none() {
        return exact(j, name);
    }
    let (Some(ours), Some(got)) = (window(j.golden, name, sets, n), window(j.candidate, name, sets, n)) else {
        return not_integers(j, name);
    };
    if ours == got {
        return StageVerdict::plain(name, Outcome::Pass, "");
    }
    let attention = format!("policy.{l:02}.attention");
    let found = j.golden.get(&attention).and_then(|_| j.golden.f64(&attention).ok());
    let (Window::Elite { alpha }, Some(found), Some(scorer)) = (policy.window, found, &j.scorer) else {
        let (at, a, b) = first_difference(&ours, &got);
        return StageVerdict::plain(name, Outcome::Fail, "other rows vote").at(vec![at], a, b);
    };
    let shape = found.shape().to_vec();
    let truth = found.as_slice().unwrap_or_default();
    let layout = Layout::of(&attention, &shape);
    let noise = noise::read(j.golden, j.precision, &attention, layout).unwrap_or_else(|| Errors::none(layout));
    let margin = margins(&attention, &shape, truth, &noise, j.precision);
    let text = scorer.rows();
    if layout.width != text.len() || layout.rows < sets {
        return exact(j, name);
    }
    let mut largest = (0.0, 0.0, 0, 0.0, 0.0); // gap, margin, row, attention, threshold
    for (set, (ours, got)) in ours.iter().zip(&got).enumerate() {
        let differ = |r: &&usize| ours.binary_search(r).is_ok() != got.binary_search(r).is_ok();
        for &row in ours.iter().chain(got).filter(differ) {
            let Ok(column) = text.binary_search(&row) else {
                let words = format!("row {row} votes, which is no text that counts");
                return StageVerdict::plain(name, Outcome::Fail, words);
            };
            let heads: Vec<usize> = if policy.heads == Heads::Union { (0..layout.rows).collect() } else { vec![set] };
            let gaps = heads.iter().map(|&h| {
                let att = &truth[h * layout.width..][..layout.width];
                let threshold = alpha * att.iter().copied().fold(0.0, f64::max);
                ((att[column] - threshold).abs(), margin[h] * (1.0 + alpha), row, att[column], threshold)
            });
            if let Some(gap) = gaps.min_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)))
                && (largest.1 == 0.0 || gap.0 / gap.1 > largest.0 / largest.1)
            {
                largest = gap;
            }
        }
    }
    let (gap, margin, row, attention, threshold) = largest;
    let words = format!(
        "row {row} attends {attention:.3e}, the threshold is {threshold:.3e}: gap {gap:.0e}, noise {margin:.0e}"
    );
    let outcome = if gap <= margin { Outcome::Admissible } else { Outcome::Fail };
    StageVerdict::plain(name, outcome, words).by("margin", gap, margin, 1.0)
}

fn first_difference(ours: &[Vec<usize>], got: &[Vec<usize>]) -> (usize, f64, f64) {
    let of = |sets: &[Vec<usize>], i: usize| sets.concat().get(i).map_or(f64::NAN, |&v| v as f64);
    let longest = ours.concat().len().max(got.concat().len());
    let at = (0..longest).find(|&i| of(ours, i) != of(got, i)).unwrap_or(0);
    (at, of(ours, at), of(got, at))
}
