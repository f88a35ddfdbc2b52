//! Suspects: numbers that stand at another place. Rows that were not written, rows that are late, heads, channels or tiles
//! in another order, the numbers of another stage. Spec: D11.4

use super::lineup::{Fitted, Lineup};
use crate::golden::measure::Layout;
use crate::stage::Site;

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    zeros(lineup);
    shifted(lineup);
    axes(lineup);
    memory(lineup);
}

/// Another stage of the candidate that holds exactly these numbers.
pub(super) fn stage(lineup: &mut Lineup<'_>) {
    let n = lineup.facts.numbers;
    if n.got.iter().all(|v| *v == n.got[0]) {
        return;
    }
    for &other in &lineup.facts.alike {
        let same = (lineup.facts.known)(other).is_some_and(|x| x.len() == n.got.len() && x.iter().eq(n.got));
        if same && lineup.add(Fitted::No, n.got.to_vec(), || format!("these are the numbers of {other}")) {
            return;
        }
    }
}

/// Rows of zeros.
fn zeros(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    let is_zero = |row: &[f64]| row.iter().all(|v| *v == 0.0);
    let rows = || n.got.chunks(layout.width).zip(n.truth.chunks(layout.width));
    let bad: Vec<usize> =
        rows().enumerate().filter(|(_, (got, truth))| is_zero(got) && !is_zero(truth)).map(|(i, _)| i).collect();
    if bad.is_empty() {
        return;
    }
    let values = rows().flat_map(|(got, truth)| if is_zero(got) { got } else { truth }).copied().collect();
    lineup.add(Fitted::No, values, || {
        let mut rows: Vec<usize> = bad.iter().map(|i| i % layout.rows).collect();
        rows.sort_unstable();
        rows.dedup();
        format!("{} all zeros: never written", are(&rows))
    });
}

/// The farthest that a row may come from.
const FAR: isize = 8;

/// Rows that hold other rows: all wrong rows are late, or early, by the same number.
fn shifted(lineup: &mut Lineup<'_>) {
    let (n, layout) = (lineup.facts.numbers, lineup.facts.layout());
    let Layout { lead, rows, width, .. } = layout;
    if rows < 4 {
        return;
    }
    let row = |i: usize| i * width..(i + 1) * width;
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    // A row is wrong if some near row explains it much better than its own truth.
    let wrong = |i: usize, by: isize| {
        let (head, at) = (i / rows, (i % rows) as isize - by);
        if !(0..rows as isize).contains(&at) {
            return false;
        }
        let got = &n.got[row(i)];
        let from = &n.truth[row(head * rows + at as usize)];
        apart(got, from) < 0.1 * apart(got, &n.truth[row(i)])
    };
    for by in (-FAR..=FAR).filter(|by| *by != 0) {
        let bad: Vec<usize> = (0..lead * rows).filter(|&i| wrong(i, by)).collect();
        if bad.len() < 2 {
            continue;
        }
        let mut values = n.truth.to_vec();
        for &i in &bad {
            let from = (i as isize - by) as usize;
            values[row(i)].copy_from_slice(&n.truth[row(from)]);
        }
        lineup.add(Fitted::No, values, || {
            let mut rows: Vec<usize> = bad.iter().map(|i| i % layout.rows).collect();
            rows.sort_unstable();
            rows.dedup();
            let way = if by > 0 { "before" } else { "after" };
            match by.abs() {
                1 => format!("{} each the row {way}: one row {}", hold(&rows), if by > 0 { "late" } else { "early" }),
                far => format!("{} each the row {far} places {way}", hold(&rows)),
            }
        });
    }
}

/// Heads and rows in the order of the other layout, under the right shape: a view was saved as it lies in memory.
fn memory(lineup: &mut Lineup<'_>) {
    let (layout, (heads, _)) = (lineup.facts.layout(), lineup.facts.heads());
    let truth = lineup.facts.numbers.truth;
    if heads < 2 || layout.rows < 2 || truth.len() != heads * layout.rows * (truth.len() / (heads * layout.rows)) {
        return;
    }
    let (outer, inner, order) = match layout.lead {
        1 => (heads, layout.rows, "[heads, n, d_h] under the shape [n, heads · d_h]"),
        _ => (layout.rows, heads, "[n, heads, d_h] under the shape [heads, n, d_h]"),
    };
    let d = truth.len() / (outer * inner);
    // Number i lies at (outer, inner); the truth has (inner, outer).
    let at = |i: usize| ((i / d % inner) * outer + i / d / inner) * d + i % d;
    let values = (0..truth.len()).map(|i| truth[at(i)]).collect();
    lineup.add(Fitted::No, values, || format!("the numbers lie as {order}: a view that is not contiguous was saved"));
}

/// The largest axis whose order is tried.
const LONGEST: usize = 256;

/// Another order of heads, channels or tiles.
fn axes(lineup: &mut Lineup<'_>) {
    let facts = lineup.facts;
    let shape = facts.numbers.shape;
    let layout = facts.layout();
    let (heads, _) = facts.heads();
    let mut all: Vec<(usize, usize, &str)> = vec![]; // sides before the axis, of the axis, its name
    match facts.at.site {
        Site::Pixels => {
            if let Some(last) = shape.len().checked_sub(3).filter(|&last| shape[last] == 3) {
                let tiles: usize = shape[..last].iter().product();
                all.push((1, tiles, "tiles"));
                all.push((tiles, 3, "channels"));
            }
        }
        Site::Mix | Site::StepMix if heads > 1 => all.push((layout.rows, heads, "heads")),
        _ if layout.lead > 1 => all.push((1, layout.lead, "heads")),
        Site::VisionOut if shape.len() == 3 => all.push((1, shape[0], "tiles")),
        _ => {}
    }
    for (outer, side, name) in all {
        if (2..=LONGEST).contains(&side) {
            order(lineup, outer, side, name);
        }
    }
}

/// Whether one axis is in another order.
fn order(lineup: &mut Lineup<'_>, outer: usize, side: usize, name: &str) {
    let n = lineup.facts.numbers;
    let inner = n.truth.len() / (outer * side);
    let part = |o: usize, k: usize| (o * side + k) * inner..(o * side + k + 1) * inner;
    let apart = |to: usize, from: usize| -> f64 {
        let pairs = (0..outer).flat_map(|o| n.got[part(o, to)].iter().zip(&n.truth[part(o, from)]));
        pairs.map(|(a, b)| (a - b).powi(2)).sum()
    };
    let nearest = |to: usize| {
        let own = apart(to, to);
        let best = (0..side).map(|from| (from, apart(to, from))).min_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|best| best.1 < 0.1 * own).map_or(to, |best| best.0)
    };
    let from: Vec<usize> = (0..side).map(nearest).collect();
    let moved: Vec<usize> = (0..side).filter(|&k| from[k] != k).collect();
    if moved.is_empty() {
        return;
    }
    let mut values = n.truth.to_vec();
    for o in 0..outer {
        moved.iter().for_each(|&k| values[part(o, k)].copy_from_slice(&n.truth[part(o, from[k])]));
    }
    lineup.add(Fitted::No, values, || match moved[..] {
        [a, b] if from[a] == b && from[b] == a && name == "channels" && (a, b) == (0, 2) => {
            "channels are in the order blue, green, red".into()
        }
        [a, b] if from[a] == b && from[b] == a => format!("{name} {a} and {b} are exchanged"),
        _ => {
            let few = moved.iter().take(6).map(|&k| format!("{k} holds {}", from[k])).collect::<Vec<_>>().join(", ");
            let more = if moved.len() > 6 { ", …" } else { "" };
            format!("{name} stand in another order: {few}{more}")
        }
    });
}

fn are(rows: &[usize]) -> String {
    if rows.len() == 1 { format!("row {} is", rows[0]) } else { format!("{} are", list(rows)) }
}

fn hold(rows: &[usize]) -> String {
    format!("{} hold", list(rows))
}

/// Rows in words.
fn list(rows: &[usize]) -> String {
    let (first, last) = (rows[0], rows[rows.len() - 1]);
    match rows.len() {
        n if last - first + 1 == n && n > 2 => format!("rows {first} to {last}"),
        n if n > 4 => format!("{n} rows, from {first} to {last},"),
        _ => format!("rows {}", rows.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}
