//! Where a stage is wrong, in the words of a kernel engineer.

use crate::golden::measure::Layout;
use crate::stage::{Site, Stage};

/// The place of a failure: `wrong(0, i)` reports whether row i is wrong, `wrong(1, i)` column i, `wrong(2, i)` head i.
/// Spec: D11.1
pub(in crate::golden) fn place(
    name: &str,
    layout: Layout,
    heads: usize,
    wrong: impl Fn(usize, usize) -> bool,
) -> String {
    let Layout { lead, rows, width, .. } = layout;
    let row_is = |i: usize| wrong(0, i);
    let head_is = |h: usize| wrong(2, h) || (h * rows..(h + 1) * rows).any(row_is);
    if lead > 1 {
        let bad: Vec<usize> = (0..lead).filter(|&h| head_is(h)).collect();
        if !bad.is_empty() && bad.len() < lead {
            let only = &bad[0];
            let within = some_rows(rows, |r| bad.iter().any(|h| row_is(h * rows + r)));
            let names: Vec<String> = bad.iter().map(usize::to_string).collect();
            return match bad.len() {
                1 => format!("head {only}{within}"),
                _ => format!("heads {}{within}", names.join(", ")),
            };
        }
        let within = some_rows(rows, |r| (0..lead).any(|h| row_is(h * rows + r)));
        return if within.is_empty() { "all heads".into() } else { format!("all heads{within}") };
    }
    let columns: Vec<usize> = if layout.columns() { (0..width).filter(|&c| wrong(1, c)).collect() } else { vec![] };
    if !columns.is_empty() && columns.len() < width {
        let mix = Stage::parse(name).is_some_and(|at| at.site == Site::Mix) && heads > 1 && width.is_multiple_of(heads);
        if mix {
            let mut of: Vec<usize> = columns.iter().map(|c| c / (width / heads)).collect();
            of.dedup();
            if of.len() < heads {
                let names: Vec<String> = of.iter().map(usize::to_string).collect();
                return format!("head{} {}", if of.len() > 1 { "s" } else { "" }, names.join(", "));
            }
        } else if columns.len() <= 4.max(width / 8) {
            return format!("column {}{}", columns[0], if columns.len() > 1 { " and others" } else { "" });
        }
    }
    let within = some_rows(rows, row_is);
    if within.is_empty() { "everywhere".into() } else { within.trim_start_matches(", ").into() }
}

/// The rows that are wrong; empty if nearly all rows are wrong, or none.
fn some_rows(rows: usize, wrong: impl Fn(usize) -> bool) -> String {
    let bad: Vec<usize> = (0..rows).filter(|&r| wrong(r)).collect();
    let (Some(&first), Some(&last)) = (bad.first(), bad.last()) else { return String::new() };
    if rows == 1 || bad.len() * 10 >= rows * 9 {
        String::new()
    } else if bad.len() == 1 {
        format!(", row {first}")
    } else if last - first + 1 == bad.len() && last + 1 == rows {
        format!(", rows {first} to the end")
    } else if last - first + 1 == bad.len() {
        format!(", rows {first} to {last}")
    } else {
        format!(", {} of {rows} rows, the first {first}, the last {last}", bad.len())
    }
}
