//! Judges the cache after eviction: bit-exact copies of the candidate's own keys and values, at the rows that it keeps.
//! Where the bundle does not hold these keys or values, entries are judged as the rows of the truth that they hold.

use super::integers::not_integers;
use super::numbers::times;
use super::{kept, merges, pruned};
use crate::golden::case::Case;
use crate::golden::formats;
use crate::golden::ground::Ground;
use crate::golden::held::Rows;
use crate::golden::layouts;
use crate::golden::measure::Layout;
use crate::golden::noise;
use crate::golden::rulers::roundoff;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::stage::{Site, Stage};
use crate::weights::Dtype;
use ndarray::ArrayD;

/// The verdict on `cache.LL.key`, `value` or `positions`. Spec: C10.3a
pub(in crate::golden) fn judge(case: &Case<'_>, at: Stage, name: &str) -> StageVerdict {
    let rows = match case.held(at.layer) {
        Ok(rows) => rows,
        Err(why) => return StageVerdict::plain(name, Outcome::NotJudged, why),
    };
    let copies = match at.site {
        Site::CachePositions => positions(case, name, &rows),
        _ => match case.policy.as_ref().and_then(|(policy, _)| policy.merge()) {
            Some(how) => merges::judge(case, at, name, &rows, how),
            None => entries(case, at, name, &case.sources(&rows)),
        },
    };
    if copies.outcome == Outcome::Fail {
        return copies;
    }
    match decision(case, at, &rows) {
        Some(decision) if decision.outcome != Outcome::Pass => StageVerdict { stage: name.into(), ..decision },
        _ => copies,
    }
}

/// The verdict on the eviction that a cache shows, if no kept set is recorded; at the first stage of the layer's cache.
/// Spec: C10.13a
fn decision(case: &Case<'_>, at: Stage, rows: &Rows) -> Option<StageVerdict> {
    let has = |site: Site| case.candidate.get(&Stage::layer(site, at.layer).name()).is_some();
    let first = [Site::CachePositions, Site::CacheKey, Site::CacheValue].into_iter().find(|&site| has(site));
    if has(Site::Kept) || first != Some(at.site) {
        return None;
    }
    let name = at.name();
    if case.prunes() {
        return pruned::shown(case, &name, at.layer);
    }
    let n = case.rows()?;
    let all = rows.iter().all(|rows| rows.len() == n);
    let Some(scorer) = &case.scorer else {
        let words = "the metadata policy and retain are missing, so nobody can say which entries have to stay";
        return (!all).then(|| StageVerdict::plain(&name, Outcome::NotJudged, words));
    };
    match case.shown_sets(at.layer) {
        Some(sets) => Some(kept::judge_sets(case, &name, at.layer, &sets)),
        None if case.held(at.layer).is_ok() && !shows(case, at.layer) => None,
        None => {
            let stays = |row: &usize| scorer.candidates().binary_search(row).is_err();
            let lost = (0..n).filter(stays).find(|row| rows.iter().any(|rows| rows.binary_search(row).is_err()));
            let words = match lost {
                Some(row) => format!("row {row} was evicted, and this row is no candidate"),
                None => "other numbers of kept sets than the policy has".into(),
            };
            Some(StageVerdict::plain(&name, Outcome::Fail, words))
        }
    }
}

/// Whether the candidate's cache itself shows its rows.
fn shows(case: &Case<'_>, l: usize) -> bool {
    crate::golden::held::shown(case.candidate, l, case.positions().as_ref()).is_some()
}

/// The verdict on keys or values of a cache that holds these rows.
fn entries(case: &Case<'_>, at: Stage, name: &str, rows: &Rows) -> StageVerdict {
    let plain = |outcome, words: String| StageVerdict::plain(name, outcome, words);
    let source = Stage::layer(if at.site == Site::CacheKey { Site::Key } else { Site::Value }, at.layer);
    let Ok(got) = case.candidate.f64(name) else { return plain(Outcome::Fail, "no stored numbers".into()) };
    let own = case.candidate.get(&source.name()).is_some();
    let whole = if own { case.candidate.f64(&source.name()) } else { case.golden.f64(&source.name()) };
    let Ok(whole) = whole else {
        return plain(Outcome::NotJudged, format!("{source} is not known, or not stored as numbers"));
    };
    let due = rows.iter().map(Vec::len).max().unwrap_or(0);
    let hint = || match *whole.shape() {
        [heads, _, d] => layouts::suggests(case.candidate, name, got.shape(), &[heads, due, d]),
        _ => String::new(),
    };
    if whole.ndim() != 3 || got.ndim() != 3 || whole.shape()[0] != got.shape()[0] {
        let words = format!("shape {:?} beside {source} {:?}{}", got.shape(), whole.shape(), hint());
        return plain(Outcome::Fail, words);
    }
    let (heads, n, d) = (whole.shape()[0], whole.shape()[1], whole.shape()[2]);
    if got.shape()[2] == d && got.shape()[1] < due && case.policy.is_none() {
        let words = "the metadata policy and retain are missing, so nobody can say which entries have to stay";
        return plain(Outcome::NotJudged, words.into());
    }
    if got.shape()[1] != due || got.shape()[2] != d {
        return plain(Outcome::Fail, format!("shape {:?}, expected {:?}{}", got.shape(), [heads, due, d], hint()));
    }
    if rows.iter().flatten().any(|&row| row >= n) {
        return plain(Outcome::NotJudged, format!("kept rows beyond the rows of {source}"));
    }
    if let Some(quantised) = case.candidate.quantised(name) {
        return rounded(case, &whole, &got, rows, (name, source), quantised);
    }
    match own {
        true => exact(&whole, &got, rows, name, source),
        false => near(case, (at, source), &whole, &got, rows),
    }
}

/// Judges entries as copies of the candidate's own rows.
fn exact(whole: &ArrayD<f64>, got: &ArrayD<f64>, rows: &Rows, name: &str, source: Stage) -> StageVerdict {
    for g in 0..whole.shape()[0] {
        for (e, &row) in rows[g % rows.len()].iter().enumerate() {
            for i in 0..whole.shape()[2] {
                let (a, b) = (whole[[g, row, i]], got[[g, e, i]]);
                if a != b && !(a.is_nan() && b.is_nan()) {
                    let like = looks_like(whole, got, g, e);
                    let words = format!("head {g}, entry {e} is no copy of row {row} of {source}{like}");
                    return StageVerdict::plain(name, Outcome::Fail, words).at(vec![g, e, i], a, b);
                }
            }
        }
    }
    StageVerdict::plain(name, Outcome::Pass, "")
}

/// Judges a quantised cache against the best rounding of its rows: each number is at most half a step of the type from the
/// row's own, and no number is cut off. Spec: E11.3
fn rounded(
    case: &Case<'_>,
    whole: &ArrayD<f64>,
    got: &ArrayD<f64>,
    rows: &Rows,
    (name, source): (&str, Stage),
    (dtype, scale): (Dtype, &[f64]),
) -> StageVerdict {
    let own = case.candidate.get(&source.name()).is_some();
    if !own {
        let words = format!("a quantised cache is judged against the candidate's own {source}, which it lacks");
        return StageVerdict::plain(name, Outcome::NotJudged, words);
    }
    let u = roundoff(case.precision); // a scale is stored, and a quotient rounded
    let mut worst = (0.0, 0.0, f64::MIN_POSITIVE, vec![], f64::NAN, f64::NAN);
    let mut cut = 0;
    for ((at, &c), &s) in got.indexed_iter().zip(scale) {
        let (g, e, i) = (at[0], at[1], at[2]);
        let t = whole[[g, rows[g % rows.len()][e], i]];
        let code = if s == 0.0 { 0.0 } else { t / s };
        let step = formats::spacing(dtype, code.abs().min(formats::largest(dtype)));
        let ruler = (0.5 * step * s.abs() + 2.0 * u * t.abs()).max(f64::MIN_POSITIVE);
        let error = (c - t).abs();
        cut += usize::from(code.abs() > formats::largest(dtype) + 0.5 * step && error > ruler);
        if error / ruler > worst.0 || error.is_nan() {
            worst = (if error.is_nan() { f64::INFINITY } else { error / ruler }, error, ruler, vec![g, e, i], t, c);
        }
    }
    let (ratio, error, ruler, at, t, c) = worst;
    let failed = ratio > 1.0;
    let what = formats::words(dtype);
    let words = match failed {
        false => format!("{what}, rounded as well as its scales allow"),
        true if cut > 0 => format!("{cut} numbers of {source} are beyond the largest number of {what} times its scale"),
        true => format!("{what}: {} half a step of the type from {source}", times(ratio)),
    };
    let outcome = if failed { Outcome::Fail } else { Outcome::Pass };
    StageVerdict::plain(name, outcome, words).by("element", error, ruler, 1.0).at(at, t, c)
}

/// Judges entries as the rows of the truth that they hold, by the noise of these rows.
fn near(
    case: &Case<'_>,
    (at, source): (Stage, Stage),
    whole: &ArrayD<f64>,
    got: &ArrayD<f64>,
    rows: &Rows,
) -> StageVerdict {
    let not_judged = |words: &str| StageVerdict::plain(&at.name(), Outcome::NotJudged, words);
    let name = source.name();
    if !case.reaches(source) {
        return not_judged("the stages that the keys and values are computed from are not in the bundle");
    }
    if case.golden.get(&format!("rows.{name}")).is_some() {
        return not_judged("the golden holds only some rows of these keys or values");
    }
    let Some(noise) = noise::read(case.golden, case.precision, &name, Layout::of(&name, whole.shape())) else {
        return not_judged("the golden has no noise for these keys or values");
    };
    // Rows that the cache does not hold have no error.
    let mut shown = whole.clone();
    for g in 0..whole.shape()[0] {
        for (e, &row) in rows[g % rows.len()].iter().enumerate() {
            (0..whole.shape()[2]).for_each(|i| shown[[g, row, i]] = got[[g, e, i]]);
        }
    }
    let flat = |x: &ArrayD<f64>| x.iter().copied().collect::<Vec<f64>>();
    let mut verdict = case.against(at, source, (whole.shape(), &flat(whole)), &flat(&shown), noise);
    if let [g, row, _] = verdict.index[..] {
        verdict.index[1] = rows[g % rows.len()].binary_search(&row).unwrap_or(row);
    }
    if verdict.outcome == Outcome::Fail {
        verdict.words = format!("against the rows of {source}: {}", verdict.words);
    }
    verdict
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

fn positions(case: &Case<'_>, name: &str, rows: &Rows) -> StageVerdict {
    let Ok(got) = case.candidate.i64(name) else { return not_integers(case, name) };
    let Some(all) = case.placed() else {
        return StageVerdict::plain(name, Outcome::NotJudged, "input.positions is not in the bundle");
    };
    let of_images = Stage::once(Site::Positions);
    let placed = |ground: &Ground<'_>| !ground.facts.placed || (ground.has)(of_images) || case.reaches(of_images);
    if !case.ground.as_ref().is_none_or(placed) {
        let words = "input.positions is not in the bundle, and the images that give them are not known";
        return StageVerdict::plain(name, Outcome::NotJudged, words);
    }
    let n = *all.shape().last().unwrap_or(&0);
    let axes = all.len() / n.max(1);
    let all: &Vec<i64> = &all.iter().copied().collect();
    let per_head = got.ndim() > 1 + usize::from(axes > 1);
    let heads = if per_head { got.shape()[got.ndim() - 2].max(1) } else { 1 };
    let due = rows.iter().map(Vec::len).max().unwrap_or(0);
    let of = |a: usize, g: usize| {
        let own = rows[g % rows.len()].iter().map(move |&row| all.get(a * n + row).copied().unwrap_or(-1));
        own.chain(std::iter::repeat(-1)).take(due).collect::<Vec<i64>>()
    };
    let expected: Vec<i64> = (0..axes).flat_map(|a| (0..heads).flat_map(|g| of(a, g)).collect::<Vec<_>>()).collect();
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
