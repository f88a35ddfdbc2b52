//! Judges merged entries of a cache: the means of the candidate's own keys and values that go into them.

use crate::cache::{HeadCache, Merge};
use crate::golden::case::Case;
use crate::golden::held::Rows;
use crate::golden::rulers::roundoff;
use crate::golden::verdict::{Outcome, StageVerdict};
use crate::num::{Grid, sum};
use crate::stage::{Site, Stage};
use ndarray::{Array3, Ix3};

/// Two keys whose similarities to an evicted key differ by less than this many roundoffs may change places. Spec: C9.8c
const CLOSE: f64 = 8.0;
/// The roundings of a mean beside one for each entry that goes into it. Spec: C9.8c
const STORES: f64 = 4.0;

/// The verdict on `cache.LL.key` or `value`, whose heads hold these rows. Spec: D9.8, C9.8c
pub(in crate::golden) fn judge(case: &Case<'_>, at: Stage, name: &str, rows: &Rows, how: Merge) -> StageVerdict {
    let plain = |outcome, words: &str| StageVerdict::plain(name, outcome, words);
    let own = |site: Site| {
        let name = Stage::layer(site, at.layer).name();
        case.candidate.get(&name).and_then(|_| case.candidate.f64(&name).ok()?.into_dimensionality::<Ix3>().ok())
    };
    let (Some(keys), Some(values)) = (own(Site::Key), own(Site::Value)) else {
        return plain(
            Outcome::NotJudged,
            "merged entries are judged by the candidate's own keys and values of the layer",
        );
    };
    let Some(scorer) = &case.scorer else { return plain(Outcome::NotJudged, "the roles are not known") };
    let Some(got) = case.candidate.f64(name).ok().and_then(|got| got.into_dimensionality::<Ix3>().ok()) else {
        return plain(Outcome::Fail, "no stored numbers of the shape [G, len, d_h]");
    };
    let (heads, n, d) = keys.dim();
    let due = rows.iter().map(Vec::len).max().unwrap_or(0);
    if values.dim() != keys.dim() || rows.iter().flatten().any(|&row| row >= n) {
        return plain(Outcome::NotJudged, "keys and values do not fit each other or the kept rows");
    }
    if got.dim() != (heads, due, d) {
        let words = format!("shape {:?}, expected {:?}", got.shape(), [heads, due, d]);
        return plain(Outcome::Fail, &words);
    }
    let (u, mut worst, mut unclear, mut total) = (roundoff(case.precision), None, 0, 0);
    for g in 0..heads {
        let keep = &rows[g % rows.len()];
        let (expected, into, open) = head(&keys, &values, g, (keep, scorer.candidates()), how, CLOSE * u);
        (unclear, total) = (unclear + open.len(), total + keep.len());
        for (e, more) in into.iter().enumerate().filter(|(e, _)| !open.contains(e)) {
            let whole = if at.site == Site::CacheKey { &keys } else { &values };
            let merged: Vec<f64> =
                if at.site == Site::CacheKey { expected.key(e).collect() } else { expected.value(e).collect() };
            for (i, &due) in merged.iter().enumerate() {
                let largest = more.iter().chain([&keep[e]]).map(|&row| whole[[g, row, i]].abs()).fold(0.0, f64::max);
                let roundings = if more.is_empty() { 0.0 } else { STORES + more.len() as f64 };
                let (error, ruler) = ((got[[g, e, i]] - due).abs(), roundings * u * largest);
                let off = error > ruler || error.is_nan();
                if off && worst.as_ref().is_none_or(|(most, ..): &(f64, _, _, _)| error > *most || error.is_nan()) {
                    worst = Some((error, [g, e, i], due, more.len()));
                }
            }
        }
    }
    if let Some((_, index, due, count)) = worst {
        let words = format!(
            "head {}, entry {} is not row {} with the {count} entries that are merged into it",
            index[0],
            index[1],
            rows[index[0] % rows.len()][index[1]]
        );
        return plain(Outcome::Fail, &words).at(index.to_vec(), due, got[index]);
    }
    match unclear {
        0 => plain(Outcome::Pass, ""),
        _ if unclear == total => plain(Outcome::NotJudged, "evicted keys are as near to one entry as to another"),
        _ => plain(Outcome::Pass, &format!("{unclear} entries not judged: an evicted key is as near to another entry")),
    }
}

/// A head after its merge; the rows that go into each entry; and the entries that rounding may give other rows.
fn head(
    keys: &Array3<f64>,
    values: &Array3<f64>,
    g: usize,
    (keep, candidates): (&[usize], &[usize]),
    how: Merge,
    close: f64,
) -> (HeadCache<f64>, Vec<Vec<usize>>, Vec<usize>) {
    let (_, n, d) = keys.dim();
    let mut full = HeadCache::new(d);
    for row in 0..n {
        let of = |x: &Array3<f64>| (0..d).map(|i| x[[g, row, i]]).collect::<Vec<f64>>();
        full.push(row, of(keys).into_iter(), of(values).into_iter());
    }
    let targets = full.targets(keep, candidates, how);
    let mut into = vec![vec![]; keep.len()];
    targets.iter().for_each(|&(row, place)| into[place].push(row));
    let length = |row: usize| sum(&(0..d).map(|i| keys[[g, row, i]].powi(2)).collect::<Vec<_>>()).sqrt();
    let alike = |a: usize, b: usize| {
        let product = sum(&(0..d).map(|i| keys[[g, a, i]] * keys[[g, b, i]]).collect::<Vec<_>>());
        product / (length(a) * length(b)).max(f64::MIN_POSITIVE)
    };
    let mut open = vec![];
    for &(row, place) in targets.iter().filter(|_| how == Merge::Pivot) {
        let best = alike(row, keep[place]);
        let others = (0..keep.len()).filter(|&other| other != place && best - alike(row, keep[other]) <= close);
        let others: Vec<usize> = others.collect();
        if !others.is_empty() {
            open.push(place);
            open.extend(others);
        }
    }
    open.sort_unstable();
    open.dedup();
    (full.merged(keep, candidates, how, Grid::Native), into, open)
}
