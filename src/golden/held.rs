//! The prompt rows that a cache holds, as far as a bundle shows them: by its kept sets, by the positions of its
//! entries, or because its entries are copies of the bundle's own keys. Not here: whether these are the right rows.

use super::Bundle;
use super::parsed::kept;
use crate::policy::{Cut, Scorer};
use crate::stage::{Site, Stage};
use ndarray::{ArrayD, Axis};

/// The prompt rows that each KV head of a layer holds, ascending; one list if all heads hold the same rows.
pub(super) type Rows = Vec<Vec<usize>>;

/// The rows that the recorded kept sets of a layer name; none if there are none, or if they are no sets of candidates.
pub(super) fn recorded(bundle: &Bundle, scorer: &Scorer, l: usize, sets: usize) -> Option<Rows> {
    let sets = kept(bundle, &Stage::layer(Site::Kept, l).name(), sets, scorer.candidates().len())?;
    let heads = sets.len();
    (heads > 0).then(|| scorer.rows_kept(&sets, heads))
}

/// Ascending rows of a stage.
pub(super) fn list(bundle: &Bundle, name: &str) -> Option<Vec<usize>> {
    let values = bundle.get(name).and_then(|_| bundle.i64(name).ok())?;
    let rows: Vec<usize> = values.iter().map(|&row| usize::try_from(row).ok()).collect::<Option<_>>()?;
    (values.ndim() == 1 && rows.windows(2).all(|r| r[0] < r[1])).then_some(rows)
}

/// The rows that a layer has after the last cut before it: recorded at the cut, or shown by the kept sets or the cache
/// of a layer before the next cut. Positions that are counted anew show no rows. Spec: C9.9b, C9.10a
pub(super) fn left(
    bundle: &Bundle,
    scorer: &Scorer,
    cuts: &[Cut],
    l: usize,
    positions: Option<&ArrayD<i64>>,
) -> Option<Vec<usize>> {
    let cut = cuts.iter().rev().find(|cut| cut.layer <= l)?;
    let positions = positions.filter(|all| all.ndim() > 1 || cuts.iter().all(|cut| cut.layer > 0));
    let next = cuts.iter().map(|cut| cut.layer).find(|&layer| layer > l);
    let recorded_rows = list(bundle, &Stage::layer(Site::Rows, cut.layer).name());
    recorded_rows.or_else(|| {
        let most = bundle.names().filter_map(Stage::parse).map(|at| at.layer + 1).max().unwrap_or(0);
        (cut.layer..next.unwrap_or(most).min(most)).find_map(|layer| {
            let placed = || by_positions(bundle, layer, positions?);
            recorded(bundle, scorer, layer, 1).or_else(placed)?.into_iter().next()
        })
    })
}

/// The rows that the entries of a layer's cache show. positions: those of the prompt's rows, [n] or [3, n].
pub(super) fn shown(bundle: &Bundle, l: usize, positions: Option<&ArrayD<i64>>) -> Option<Rows> {
    let found = positions.and_then(|all| by_positions(bundle, l, all)).or_else(|| by_copies(bundle, l));
    found.filter(|rows| !rows.is_empty())
}

/// The rows that stand at the positions of the entries, in order.
fn by_positions(bundle: &Bundle, l: usize, all: &ArrayD<i64>) -> Option<Rows> {
    let name = Stage::layer(Site::CachePositions, l).name();
    let got = bundle.get(&name).and_then(|_| bundle.i64(&name).ok())?;
    let n = *all.shape().last()?;
    let axes = all.len() / n.max(1);
    let heads = match got.shape() {
        [_] if axes == 1 => 1,
        [3, _] if axes == 3 => 1,
        [heads, _] if axes == 1 => *heads,
        [3, heads, _] if axes == 3 => *heads,
        _ => return None,
    };
    let len = *got.shape().last()?;
    let (all, got): (Vec<i64>, Vec<i64>) = (all.iter().copied().collect(), got.iter().copied().collect());
    let same =
        |row: usize, head: usize, e: usize| (0..axes).all(|a| all[a * n + row] == got[(a * heads + head) * len + e]);
    let rows = |head: usize| {
        let mut next = 0;
        // A head that keeps fewer rows than another ends with the positions −1.
        let own = (0..len).take_while(|&e| (0..axes).any(|a| got[(a * heads + head) * len + e] >= 0));
        own.map(|e| {
            let row = (next..n).find(|&row| same(row, head, e))?;
            next = row + 1;
            Some(row)
        })
        .collect::<Option<Vec<usize>>>()
    };
    (0..heads).map(rows).collect()
}

/// The rows of the bundle's own keys that the entries are copies of, in order.
fn by_copies(bundle: &Bundle, l: usize) -> Option<Rows> {
    let of = |site: Site| {
        let name = Stage::layer(site, l).name();
        bundle.get(&name).filter(|t| t.shape.len() == 3).and_then(|_| bundle.f64(&name).ok())
    };
    let (entries, keys) = (of(Site::CacheKey)?, of(Site::Key)?);
    if entries.shape()[0] != keys.shape()[0] || entries.shape()[2] != keys.shape()[2] {
        return None;
    }
    // A head that keeps fewer rows than another ends with zeros (D9.7).
    let filled = |entries: &ndarray::ArrayViewD<'_, f64>| {
        entries.outer_iter().rposition(|entry| entry.iter().any(|&v| v != 0.0)).map_or(0, |last| last + 1)
    };
    let ragged = entries.outer_iter().any(|head| filled(&head) == entries.shape()[1]);
    let head = |(entries, keys): (ndarray::ArrayViewD<'_, f64>, ndarray::ArrayViewD<'_, f64>)| {
        let (mut next, n) = (0, keys.shape()[0]);
        let len = if ragged { filled(&entries) } else { entries.shape()[0] };
        (0..len)
            .map(|e| {
                let entry = entries.index_axis(Axis(0), e);
                let row = (next..n).find(|&row| keys.index_axis(Axis(0), row) == entry)?;
                next = row + 1;
                Some(row)
            })
            .collect::<Option<Vec<usize>>>()
    };
    entries.outer_iter().zip(keys.outer_iter()).map(head).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::BundleWriter;
    use ndarray::array;

    #[test]
    fn rows_are_read_off_positions_and_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        let mut w = BundleWriter::create(&path).unwrap();
        w.put_i64("cache.00.positions", &[2], &[3, 7]).unwrap();
        w.put_i64("cache.01.positions", &[2], &[3, 4]).unwrap();
        w.put_f32("decoder.02.key", &[1, 3, 1], &[1.0, 2.0, 1.0]).unwrap();
        w.put_f32("cache.02.key", &[1, 2, 1], &[2.0, 1.0]).unwrap();
        w.finish([("precision", "f32")]).unwrap();
        let bundle = Bundle::open(&path).unwrap();
        let positions = array![3, 5, 7].into_dyn();
        assert_eq!(shown(&bundle, 0, Some(&positions)), Some(vec![vec![0, 2]]));
        assert_eq!(shown(&bundle, 1, Some(&positions)), None, "no row stands at 4");
        assert_eq!(shown(&bundle, 2, None), Some(vec![vec![1, 2]]), "in order: the second 1");
    }
}
