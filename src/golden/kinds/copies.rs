//! Judges the cache after eviction: bit-exact copies of the candidate's own keys and values, at its own kept rows.

use super::integers::not_integers;
use crate::golden::case::Case;
use crate::golden::given::kept;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::policy::Heads;
use crate::stage::{Site, Stage};

/// The verdict on `cache.LL.key`, `value` or `positions`. Spec: C10.3a
pub(in crate::golden) fn judge(case: &Case<'_>, at: Stage, name: &str) -> StageVerdict {
    let not_judged = |words: &str| StageVerdict::plain(name, Outcome::NotJudged, words);
    let own = |site: Site| Stage::layer(site, at.layer).name();
    let heads = match case.candidate.get(&own(Site::CacheKey)).or_else(|| case.golden.get(&own(Site::CacheKey))) {
        Some(t) if t.shape.len() == 3 => t.shape[0].max(1),
        _ => 1,
    };
    // The rows that each KV head keeps; all rows if no policy evicts.
    let kept_name = own(Site::Kept);
    let rows: Option<Vec<Vec<usize>>> = match &case.scorer {
        Some(scorer) => {
            let sets = if case.policy.is_some_and(|p| p.0.heads == Heads::Kv) { heads } else { 1 };
            let from = if case.candidate.get(&kept_name).is_some() { case.candidate } else { case.golden };
            if from.get(&kept_name).is_none() {
                return not_judged("policy.LL.kept is not in the bundle");
            }
            match kept(from, &kept_name, sets, scorer.candidates().len()) {
                Some(sets) => Some(scorer.rows_kept(&sets, heads)),
                None => return not_judged("policy.LL.kept is not a set of visual tokens"),
            }
        }
        None => None,
    };
    if at.site == Site::CachePositions {
        return positions(case, name, rows);
    }
    let source = own(if at.site == Site::CacheKey { Site::Key } else { Site::Value });
    let (whole, got) = match (case.candidate.get(&source), case.candidate.f64(name)) {
        (Some(_), Ok(got)) => (case.candidate.f64(&source), got),
        (None, Ok(_)) => return case.numbers(name),
        (_, Err(_)) => return StageVerdict::plain(name, Outcome::Fail, "no stored numbers"),
    };
    let Ok(whole) = whole else { return not_judged("the candidate's own keys or values are not stored as numbers") };
    if whole.ndim() != 3 || got.ndim() != 3 || whole.shape()[0] != got.shape()[0] {
        return StageVerdict::plain(
            name,
            Outcome::Fail,
            format!("shape {:?} beside {source} {:?}", got.shape(), whole.shape()),
        );
    }
    let n = whole.shape()[1];
    let rows = rows.unwrap_or_else(|| vec![(0..n).collect(); heads]);
    let due = rows.first().map_or(0, Vec::len);
    if got.shape()[1] != due || got.shape()[2] != whole.shape()[2] {
        let words = format!("shape {:?}, expected {:?}", got.shape(), [heads, due, whole.shape()[2]]);
        return StageVerdict::plain(name, Outcome::Fail, words);
    }
    for (g, rows) in rows.iter().enumerate() {
        for (e, &row) in rows.iter().enumerate() {
            for i in 0..whole.shape()[2] {
                let (a, b) = if row < n {
                    (whole[[g, row, i]], got[[g, e, i]])
                } else {
                    return not_judged("kept rows beyond the prompt");
                };
                if a != b && !(a.is_nan() && b.is_nan()) {
                    let like = looks_like(&whole, &got, g, e);
                    let words = format!("head {g}, entry {e} is no copy of row {row} of {source}{like}");
                    return StageVerdict::plain(name, Outcome::Fail, words).at(vec![g, e, i], a, b);
                }
            }
        }
    }
    StageVerdict::plain(name, Outcome::Pass, "")
}

/// The wrong row that an entry is a copy of, if any.
fn looks_like(whole: &ndarray::ArrayD<f64>, got: &ndarray::ArrayD<f64>, g: usize, e: usize) -> String {
    let entry = got.index_axis(ndarray::Axis(0), g).index_axis(ndarray::Axis(0), e).to_owned();
    for (head, rows) in whole.outer_iter().enumerate() {
        if let Some(row) = rows.outer_iter().position(|row| row == entry.view()) {
            return if head == g {
                format!(", but of row {row}")
            } else {
                format!(", but of row {row} of head {head}")
            };
        }
    }
    String::new()
}

fn positions(case: &Case<'_>, name: &str, rows: Option<Vec<Vec<usize>>>) -> StageVerdict {
    let Ok(got) = case.candidate.i64(name) else { return not_integers(case, name) };
    let own = case
        .candidate
        .i64(&Stage::once(Site::Positions).name())
        .or_else(|_| case.golden.i64(&Stage::once(Site::Positions).name()));
    let Ok(all) = own else {
        return StageVerdict::plain(name, Outcome::NotJudged, "input.positions is not in the bundle");
    };
    let n = *all.shape().last().unwrap_or(&0);
    let axes = all.len() / n.max(1);
    let rows = rows.unwrap_or_else(|| vec![(0..n).collect()]);
    let all: Vec<i64> = all.iter().copied().collect();
    let per_head = got.ndim() > 1 + usize::from(axes > 1);
    let rows = if per_head { &rows[..] } else { &rows[..1] };
    let expected: Vec<i64> = (0..axes)
        .flat_map(|a| rows.iter().flatten().map(|&r| all.get(a * n + r).copied().unwrap_or(-1)).collect::<Vec<_>>())
        .collect();
    if expected.len() != got.len() {
        let words = format!("{} positions for {} kept entries", got.len(), expected.len());
        return StageVerdict::plain(name, Outcome::Fail, words);
    }
    match expected.iter().zip(&got).position(|(a, b)| a != b) {
        None => StageVerdict::plain(name, Outcome::Pass, ""),
        Some(i) => {
            let renumbered = got.iter().enumerate().all(|(i, &p)| p == i as i64);
            let words = if renumbered {
                "positions start at 0 again: entries must keep the positions of the prompt"
            } else {
                "the positions differ from those of the kept entries"
            };
            StageVerdict::plain(name, Outcome::Fail, words).at(
                vec![i],
                expected[i] as f64,
                got.iter().nth(i).map_or(f64::NAN, |&p| p as f64),
            )
        }
    }
}
