//! Causes of wrong integers: roles, positions, tokens. Spec: D11.10

use crate::golden::case::Case;
use crate::golden::verdict::StageVerdict;
use crate::stage::{Phase, Site, Stage};

fn both(case: &Case<'_>, site: Site) -> Option<[Vec<i64>; 2]> {
    let name = Stage::once(site).name();
    let (ours, got) = (case.golden.i64(&name).ok()?, case.candidate.i64(&name).ok()?);
    (ours.shape() == got.shape()).then(|| [ours.into_iter().collect(), got.into_iter().collect()])
}

/// Rows of the image that are called text, or the reverse.
pub(super) fn roles(case: &Case<'_>) -> Option<String> {
    let [ours, got] = both(case, Site::Roles)?;
    let wrong = |from: i64| (0..ours.len()).filter(|&i| ours[i] == from && got[i] != from).count();
    let (visual, text) = (wrong(1), wrong(0));
    match (visual, text) {
        (0, 0) => None,
        (v, 0) if v == ours.iter().filter(|r| **r == 1).count() => Some("every row is called text".into()),
        (v, 0) => Some(format!(
            "{v} of the rows that came from the vision side are called text; rows of a newline are visual, markers are text"
        )),
        (0, t) => Some(format!("{t} rows of text are called visual; only rows that came from the vision side are")),
        _ if ours.iter().zip(&got).all(|(a, b)| a + b == 1) => Some("0 is visual and 1 is text: the reverse".into()),
        _ => None,
    }
}

/// Positions that are off by the same number from a row on, or of another rule.
pub(super) fn positions(case: &Case<'_>) -> Option<String> {
    let [ours, got] = both(case, Site::Positions)?;
    let n = case.rows()?;
    let off: Vec<i64> = ours.iter().zip(&got).map(|(a, b)| b - a).collect();
    let first = (0..n).find(|&i| off.chunks(n).any(|axis| axis[i] != 0))?;
    let by = off.chunks(n).map(|axis| axis[first]).find(|by| *by != 0)?;
    if off.chunks(n).all(|axis| axis[first..].iter().all(|o| *o == by)) {
        let way = if by > 0 { "large" } else { "small" };
        return Some(format!("from row {first} on every position is {} too {way}", by.abs()));
    }
    if ours.len() > n && got.chunks(n).all(|axis| axis.iter().enumerate().all(|(i, p)| *p == i as i64)) {
        return Some("positions count rows on every axis: M-RoPE is left out".into());
    }
    None
}

/// The place of a token among the logits.
pub(super) fn token(case: &Case<'_>, verdict: &StageVerdict) -> Option<String> {
    let (&[t], Some(id)) = (&verdict.index[..], verdict.got) else { return None };
    let stage = if t == 0 { Phase::Prefill } else { Phase::Step(t - 1) }.logits().name();
    let logits = case.candidate.flat(&stage).or_else(|_| case.golden.flat(&stage)).ok()?;
    let own = *logits.get(id as usize)?;
    let rank = logits.iter().filter(|v| **v > own).count();
    let greatest = |t: usize| {
        let at = if t == 0 { Phase::Prefill } else { Phase::Step(t - 1) }.logits().name();
        let all = case.candidate.flat(&at).ok()?;
        (0..all.len()).max_by(|&a, &b| all[a].total_cmp(&all[b]))
    };
    match rank {
        1 => Some("it is the second greatest logit's token".into()),
        r if r + 1 == logits.len() => Some("it is the least logit's token".into()),
        _ if greatest(t + 1) == Some(id as usize) => {
            Some("it is the token of the logits after: tokens are one early".into())
        }
        _ if t > 0 && greatest(t - 1) == Some(id as usize) => {
            Some("it is the token of the logits before: tokens are one late".into())
        }
        _ => None,
    }
}
