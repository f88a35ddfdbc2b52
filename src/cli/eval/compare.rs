//! `eval --compare`: paired differences between cells of one or two results, on the same questions.

use crate::cli::out::Stdout;
use crate::cli::{Common, Verdict};
use aircache::eval::{Difference, Journal, Metric, Questions, graded};
use aircache::{Error, Result};
use serde_json::json;
use std::fmt::Write as _;

/// A cell of a journal.
struct Side<'a> {
    journal: &'a Journal,
    cell: usize,
    name: String,
}

/// Compares the cells of one or two results, each with its name, and prints one block for each pair of cells and each metric.
pub fn run(
    results: &[(String, Journal)],
    against: Option<&str>,
    questions: &Questions,
    metrics: &[Metric],
    common: &Common,
) -> Result<Verdict> {
    let pairs = match results {
        [(_, one)] => within(one, against)?,
        [first, second] => between(first, second)?,
        _ => return Err(Error::new("--compare", "one or two results", results.len())),
    };
    let (mut lines, mut all) = (String::new(), Vec::new());
    for (first, second) in &pairs {
        for &metric in metrics {
            let of = |side: &Side<'_>| graded(side.journal, questions, metric, side.cell);
            let difference = Difference::of(&of(first), &of(second));
            let _ = writeln!(lines, "{} against {}, {}", second.name, first.name, metric.name());
            told(&mut lines, "", &difference);
            difference.kinds.iter().for_each(|(kind, difference)| told(&mut lines, kind, difference));
            all.push(
                json!({"first": first.name, "second": second.name, "metric": metric.name(), "difference": difference}),
            );
        }
    }
    match common.json {
        true => Stdout::new().json(&json!({"comparisons": all}))?,
        false => Stdout::new().text(&lines)?,
    }
    Ok(Verdict::Pass)
}

/// One difference, whole or of a kind.
fn told(lines: &mut String, kind: &str, d: &Difference) {
    let (low, high) = d.ci95;
    let (better, worse) = d.better_worse;
    let kind = if kind.is_empty() { "all" } else { kind };
    let _ = writeln!(
        lines,
        "  {kind:20} {:+6.1} points, 95 % interval {:+.1} to {:+.1}, standard error {:.1}; {:.1} → {:.1} % of {}; better on {better}, worse on {worse}, sign test p = {:.2}",
        100.0 * d.difference,
        100.0 * low,
        100.0 * high,
        100.0 * d.stderr,
        100.0 * d.means.0,
        100.0 * d.means.1,
        d.n,
        d.sign_test
    );
}

/// Every other cell of a journal against the cell of one policy: at the same retention, or at its only retention.
fn within<'a>(journal: &'a Journal, against: Option<&str>) -> Result<Vec<(Side<'a>, Side<'a>)>> {
    let cells = &journal.header().cells;
    let first = cells.first().map_or("", |(policy, _)| policy.as_str());
    let base = against.unwrap_or(first);
    let of_base: Vec<usize> = (0..cells.len()).filter(|&c| cells[c].0 == base).collect();
    if of_base.is_empty() {
        let names: Vec<&str> = cells.iter().map(|(policy, _)| policy.as_str()).collect();
        return Err(Error::new("--against", format!("one of {}", names.join(", ")), format!("{base:?}")));
    }
    let side = |cell: usize| Side { journal, cell, name: name(&cells[cell]) };
    let partner = |c: usize| match of_base[..] {
        [only] => Some(only),
        _ => of_base.iter().copied().find(|&b| cells[b].1 == cells[c].1),
    };
    let others = (0..cells.len()).filter(|c| !of_base.contains(c));
    Ok(others.filter_map(|c| Some((side(partner(c)?), side(c)))).collect())
}

/// The cells that both journals have; of two journals with one cell each, those.
fn between<'a>(first: &'a (String, Journal), second: &'a (String, Journal)) -> Result<Vec<(Side<'a>, Side<'a>)>> {
    let side = |(label, journal): &'a (String, Journal), cell: usize| {
        let name = format!("{label}: {}", name(&journal.header().cells[cell]));
        Side { journal, cell, name }
    };
    let (ours, theirs) = (&first.1.header().cells, &second.1.header().cells);
    if ours.len() == 1 && theirs.len() == 1 {
        return Ok(vec![(side(first, 0), side(second, 0))]);
    }
    let place = |cell| theirs.iter().position(|other| other == cell);
    let pairs: Vec<_> =
        ours.iter().enumerate().filter_map(|(c, cell)| Some((side(first, c), side(second, place(cell)?)))).collect();
    if pairs.is_empty() {
        let names = |cells: &[(String, String)]| cells.iter().map(name).collect::<Vec<_>>().join(", ");
        return Err(Error::new("--compare", format!("a cell that both have, among {}", names(ours)), names(theirs)));
    }
    Ok(pairs)
}

fn name((policy, retain): &(String, String)) -> String {
    format!("{policy}@{retain}")
}
