//! Integers: ids, roles, sizes, grids, positions. They have to equal the golden's.

use crate::golden::case::Case;
use crate::golden::verdict::{Outcome, StageVerdict};

/// Judges integers, which have to equal the golden's.
pub(in crate::golden) fn judge(case: &Case<'_>, name: &str) -> StageVerdict {
    let Some(ours) = case.golden.get(name) else {
        let words = if case.ground.is_some() {
            "give --image and --prompt to have it judged"
        } else {
            "the golden does not have this stage"
        };
        return StageVerdict::plain(name, Outcome::NotJudged, words);
    };
    if let Some(fail) = case.misfit(name, ours.shape) {
        return fail;
    }
    match (case.golden.i64(name), case.candidate.i64(name)) {
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
        _ => not_integers(case, name),
    }
}

/// Judges a decision that can be compared with the golden's, but not computed: a difference may be honest.
pub(in crate::golden) fn equal(case: &Case<'_>, name: &str) -> StageVerdict {
    match judge(case, name) {
        StageVerdict { outcome: Outcome::Fail, words, .. } if case.candidate.i64(name).is_ok() => {
            let words = format!("{words}; without policy, roles and scores nobody can say whether it may");
            StageVerdict::plain(name, Outcome::NotJudged, words)
        }
        verdict => verdict,
    }
}

/// The failure of a stage that does not hold integers or sets of rows.
pub(in crate::golden) fn not_integers(case: &Case<'_>, name: &str) -> StageVerdict {
    let dtype = case.candidate.get(name).map_or("?".into(), |t| t.dtype.to_string());
    StageVerdict::plain(
        name,
        Outcome::Fail,
        format!("stored as {dtype}, or not as ascending rows; expected ascending integers"),
    )
}
