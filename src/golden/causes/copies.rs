//! Suspects: numbers that were not written, or stand at another place. Rows and columns of zeros, heads, channels or tiles in
//! another order, the numbers of another stage. Spec: D11.4

use super::lineup::{Fitted, Lineup};
use crate::golden::measure::Layout;
use crate::stage::Site;

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    zeros(lineup);
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

/// Fewer numbers of zero are no column.
const LEAST: usize = 4;

/// What lines are called, how many there are in a head, and the line of each number.
type Lines<'a> = (&'static str, usize, &'a dyn Fn(usize) -> usize);

/// Rows, or columns, of zeros.
fn zeros(lineup: &mut Lineup<'_>) {
    let (n, Layout { rows, width, .. }) = (lineup.facts.numbers, lineup.facts.layout());
    // A row of a head, or a column of a head.
    let row = |i: usize| i / width;
    let column = |i: usize| i / (rows * width) * width + i % width;
    let lines: [Lines<'_>; 2] = [("row", rows, &row), ("column", width, &column)];
    for (name, count, line) in lines {
        let lines = n.got.len() / (rows * width) * count;
        let (mut written, mut due) = (vec![false; lines], vec![false; lines]);
        n.got.iter().enumerate().for_each(|(i, v)| written[line(i)] |= *v != 0.0);
        n.truth.iter().enumerate().for_each(|(i, v)| due[line(i)] |= *v != 0.0);
        let mut bad: Vec<usize> = (0..lines).filter(|&i| due[i] && !written[i]).map(|i| i % count).collect();
        let together = bad.iter().max().zip(bad.iter().min()).is_some_and(|(last, first)| last - first < bad.len());
        // A column of few rows is few numbers, which an activation may cut: then they have to stand side by side.
        if bad.is_empty() || name == "column" && rows < LEAST && !(together && bad.len() >= LEAST) {
            continue;
        }
        let values = n.truth.iter().enumerate().map(|(i, t)| if written[line(i)] { *t } else { 0.0 }).collect();
        bad.sort_unstable();
        bad.dedup();
        let are = if bad.len() == 1 { "is" } else { "are" };
        if lineup.add(Fitted::No, values, || format!("{} {are} all zeros: never written", list(name, &bad))) {
            return;
        }
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

/// Rows or columns in words.
pub(super) fn list(name: &str, lines: &[usize]) -> String {
    let (first, last) = (lines[0], lines[lines.len() - 1]);
    match lines.len() {
        1 => format!("{name} {first}"),
        n if last - first + 1 == n && n > 2 => format!("{name}s {first} to {last}"),
        n if n > 4 => format!("{n} {name}s, from {first} to {last},"),
        _ => format!("{name}s {}", lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}
