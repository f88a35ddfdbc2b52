//! Causes of wrong cache entries: which rows, or whose, the entries are copies of. Spec: D11.10

use crate::golden::case::Case;
use crate::stage::{Site, Stage};
use ndarray::{Array3, Axis, Ix3};

/// The cause of entries that are no copies of the rows that the layer keeps.
pub(super) fn of(case: &Case<'_>, at: Stage) -> Option<String> {
    let of = |name: &str| case.candidate.f64(name).ok()?.into_dimensionality::<Ix3>().ok();
    let source = Stage::layer(if at.site == Site::CacheKey { Site::Key } else { Site::Value }, at.layer);
    let (got, whole) = (of(&at.name())?, of(&source.name())?);
    let rows = case.sources(&case.held(at.layer).ok()?);
    let (heads, n) = (whole.shape()[0], whole.shape()[1]);
    let len = got.shape()[1];
    if got.shape()[0] != heads || got.shape()[2] != whole.shape()[2] || rows.iter().any(|r| r.len() != len) {
        return None;
    }
    let due = |g: usize, e: usize| rows[g % rows.len()][e];
    let same = |g: usize, e: usize, head: usize, row: usize| {
        row < n && got.index_axis(Axis(0), g).row(e) == whole.index_axis(Axis(0), head).row(row)
    };
    let all = |rule: &dyn Fn(usize, usize) -> Option<(usize, usize)>| {
        let each = (0..heads).flat_map(|g| (0..len).map(move |e| (g, e)));
        each.into_iter().all(|(g, e)| rule(g, e).is_none_or(|(head, row)| same(g, e, head, row)))
    };
    if len > 2 && all(&|g, e| (e > 0).then(|| (g, due(g, e - 1)))) {
        return Some("every entry is the entry before: entries are one late".into());
    }
    if len > 2 && all(&|g, e| (e + 1 < len).then(|| (g, due(g, e + 1)))) {
        return Some("every entry is the entry after: entries are one early".into());
    }
    if all(&|g, e| Some((g, e))) {
        return Some(format!("the first {len} rows are kept, not the chosen ones"));
    }
    if all(&|g, e| Some((g, n - len + e))) {
        return Some(format!("the last {len} rows are kept, not the chosen ones"));
    }
    if let Some(other) =
        of(&Stage::layer(if at.site == Site::CacheKey { Site::Value } else { Site::Key }, at.layer).name())
        && other.dim() == whole.dim()
        && got.indexed_iter().all(|((g, e, c), v)| due(g, e) < n && *v == other[[g, due(g, e), c]])
    {
        let (due, own) = if at.site == Site::CacheKey { ("keys", "values") } else { ("values", "keys") };
        return Some(format!("the {due} of the cache are its {own}"));
    }
    if let Some(words) = page(len, &|e, from| (0..heads).all(|g| same(g, e, g, due(g, from)))) {
        return Some(words);
    }
    if heads > 1 {
        let other = |g: usize| (0..heads).find(|&head| head != g && (0..len).all(|e| same(g, e, head, due(g, e))));
        let from: Vec<usize> = (0..heads).map(|g| other(g).unwrap_or(g)).collect();
        let moved: Vec<usize> = (0..heads).filter(|&g| from[g] != g).collect();
        match moved[..] {
            [] => {}
            [a, b] if from[a] == b && from[b] == a => return Some(format!("KV heads {a} and {b} are exchanged")),
            _ => {
                let each: Vec<String> = moved.iter().map(|&g| format!("{g} holds {}", from[g])).collect();
                return Some(format!("KV heads hold the entries of others: {}", each.join(", ")));
            }
        }
    }
    reordered(&got, &whole, rows.as_slice())
}

/// Entries that hold what is due at others: all of them at the same distance. holds: whether an entry holds what is due at
/// another one.
fn page(len: usize, holds: &dyn Fn(usize, usize) -> bool) -> Option<String> {
    let wrong: Vec<usize> = (0..len).filter(|&e| !holds(e, e)).collect();
    let (&first, &last) = wrong.first().zip(wrong.last())?;
    if last - first + 1 != wrong.len() || wrong.len() == len {
        return None;
    }
    let from =
        (0..len).find(|&from| from + wrong.len() <= len && (0..wrong.len()).all(|k| holds(first + k, from + k)))?;
    let span = |first: usize| match wrong.len() {
        1 => format!("entry {first}"),
        count => format!("entries {first} to {}", first + count - 1),
    };
    let hold = if wrong.len() == 1 { "holds" } else { "hold" };
    Some(format!("{} {hold} what is due at {}: the slot or page of others", span(first), span(from)))
}

/// Whether the entries are those that are due, in another order.
fn reordered(got: &Array3<f64>, whole: &Array3<f64>, rows: &[Vec<usize>]) -> Option<String> {
    for (g, head) in got.outer_iter().enumerate() {
        let mut left = rows[g % rows.len()].clone();
        for entry in head.outer_iter() {
            let at = left
                .iter()
                .position(|&row| row < whole.shape()[1] && whole.index_axis(Axis(0), g).row(row) == entry)?;
            left.swap_remove(at);
        }
    }
    Some("the entries are the chosen ones in another order than their positions".into())
}
