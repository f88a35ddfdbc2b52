//! Suspects: rows, or columns, that hold others of the same head: late, early, exchanged, in reverse order. Which rule it is
//! shows in a few wrong ones: each is compared with all others. Spec: D11.4

use super::copies::list;
use super::lineup::{Fitted, Lineup};
use crate::golden::measure::Layout;
use std::collections::BTreeMap;

/// Adds the suspects.
pub(super) fn suspects(lineup: &mut Lineup<'_>) {
    let layout = lineup.facts.layout();
    for columns in [false, true] {
        let lines = Lines { layout, columns };
        if lines.count() >= LEAST && lines.long() >= LEAST {
            moved(lineup, &lines);
        }
    }
}

/// Fewer lines, or lines of fewer numbers, show no rule.
const LEAST: usize = 4;
/// The most wrong lines that are compared with all others.
const LOOKS: usize = 32;
/// The most rules that are tried on all lines: those that most looks follow.
const RULES: usize = 6;
/// A line holds another one if that leaves less than this share of its squared error.
const LEFT: f64 = 0.1;

/// The rows of every head, or its columns.
struct Lines {
    layout: Layout,
    columns: bool,
}

impl Lines {
    /// The lines of a head.
    fn count(&self) -> usize {
        if self.columns { self.layout.width } else { self.layout.rows }
    }

    /// The numbers of a line.
    fn long(&self) -> usize {
        if self.columns { self.layout.rows } else { self.layout.width }
    }

    /// The places of the numbers of a line.
    fn of(&self, head: usize, line: usize) -> impl Iterator<Item = usize> + use<> {
        let (Layout { rows, width, .. }, columns) = (self.layout, self.columns);
        let first = head * rows * width + if columns { line } else { line * width };
        (0..self.long()).map(move |k| first + if columns { k * width } else { k })
    }

    /// The squared distance of a line of the candidate from a line of the truth.
    fn apart(&self, got: &[f64], truth: &[f64], head: usize, (to, from): (usize, usize)) -> f64 {
        self.of(head, to).zip(self.of(head, from)).map(|(a, b)| (got[a] - truth[b]).powi(2)).sum()
    }
}

/// Which line a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// The line so many places before.
    Late(isize),
    /// The line so many places before or after, which holds this one.
    Swapped(usize),
    /// The line of the other end: both numbers have this sum.
    Reversed(usize),
    /// The same within every tile of so many lines.
    Tiles(usize),
}

impl Rule {
    /// The rules by which a line holds another one.
    fn of(to: usize, from: usize) -> impl Iterator<Item = Rule> {
        let tile = (to ^ from) + 1;
        let tile = (tile > 2 && tile.is_power_of_two()).then_some(Rule::Tiles(tile));
        [Rule::Late(to as isize - from as isize), Rule::Swapped(to.abs_diff(from)), Rule::Reversed(to + from)]
            .into_iter()
            .chain(tile)
    }

    /// The lines that a line may hold.
    fn from(self, to: usize) -> [Option<usize>; 2] {
        match self {
            Rule::Late(by) => [to.checked_add_signed(-by), None],
            Rule::Swapped(by) => [to.checked_sub(by), Some(to + by)],
            Rule::Reversed(sum) => [sum.checked_sub(to), None],
            Rule::Tiles(tile) => [Some(to ^ (tile - 1)), None],
        }
    }

    fn says(self, name: &str, moved: &[usize]) -> String {
        let all = list(name, moved);
        let (first, last) = (moved[0], moved[moved.len() - 1]);
        match self {
            Rule::Late(by) => {
                let way = if by > 0 { "before" } else { "after" };
                let late = if by > 0 { "late" } else { "early" };
                match by.abs() {
                    1 => format!("{all} hold each the {name} {way}: one {name} {late}"),
                    far => format!("{all} hold each the {name} {far} places {way}"),
                }
            }
            _ if moved.len() == 2 => format!("{name}s {first} and {last} are exchanged"),
            Rule::Swapped(by) => format!("{all} are exchanged with those {by} places away"),
            Rule::Tiles(tile) if first / tile != last / tile => {
                format!("{all} stand in reverse order within every tile of {tile}")
            }
            Rule::Reversed(_) | Rule::Tiles(_) => format!("{name}s {first} to {last} stand in reverse order"),
        }
    }
}

/// The rules that most of the worst lines follow, tried on all lines.
fn moved(lineup: &mut Lineup<'_>, lines: &Lines) {
    let n = lineup.facts.numbers;
    let (count, heads) = (lines.count(), lines.layout.lead);
    let apart = |head: usize, to: usize, from: usize| lines.apart(n.got, n.truth, head, (to, from));
    let own: Vec<f64> = (0..heads * count).map(|i| apart(i / count, i % count, i % count)).collect();
    let most = own.iter().copied().fold(0.0, f64::max);
    let wrong: Vec<usize> = (0..own.len()).filter(|&i| own[i] > 0.01 * most).collect();
    let mut rules: BTreeMap<Rule, usize> = BTreeMap::new();
    for &i in wrong.iter().step_by(wrong.len().div_ceil(LOOKS).max(1)) {
        let all = (0..count).map(|from| (from, apart(i / count, i % count, from)));
        let best = all.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|best| best.1 < LEFT * own[i]);
        for rule in best.into_iter().flat_map(|best| Rule::of(i % count, best.0)) {
            *rules.entry(rule).or_default() += 1;
        }
    }
    let mut rules: Vec<(Rule, usize)> = rules.into_iter().collect();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.1));
    let name = if lines.columns { "column" } else { "row" };
    for (rule, _) in rules.into_iter().take(RULES) {
        let from = |i: usize| -> Option<usize> {
            let may = rule.from(i % count).into_iter().flatten().filter(|&from| from < count && from != i % count);
            let near = may.map(|from| (from, apart(i / count, i % count, from)));
            near.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|near| near.1 < LEFT * own[i]).map(|near| near.0)
        };
        let from: Vec<Option<usize>> = (0..own.len()).map(from).collect();
        let mut moved: Vec<usize> = (0..own.len()).filter(|&i| from[i].is_some()).collect();
        let back = |i: usize| from[i].is_some_and(|at| from[i / count * count + at] == Some(i % count));
        if moved.len() < 2 || !matches!(rule, Rule::Late(_)) && !moved.iter().all(|&i| back(i)) {
            continue;
        }
        let mut values = n.truth.to_vec();
        for &i in &moved {
            let at = from[i].unwrap_or(i % count);
            let (to, from) = (lines.of(i / count, i % count), lines.of(i / count, at));
            to.zip(from).for_each(|(to, from)| values[to] = n.truth[from]);
        }
        lineup.add(Fitted::No, values, || {
            moved.iter_mut().for_each(|i| *i %= count);
            moved.sort_unstable();
            moved.dedup();
            rule.says(name, &moved)
        });
    }
}
