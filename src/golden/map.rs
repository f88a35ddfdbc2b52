//! A stage of numbers as a map: the error of each part of the stage, small enough to draw. Not here: drawing.

use super::kinds::numbers::{Numbers, ratios};
use super::measure::Layout;
use super::rulers::LOCAL;
use super::verdict::{Map, Outcome, StageVerdict};

/// The most cells of all panels together, and the most columns of one panel.
const CELLS: usize = 16_384;
const COLUMNS: usize = 96;

/// The map of a stage. Spec: D10.9
pub(super) fn map(n: &Numbers<'_>) -> Map {
    let Layout { lead, rows, width, .. } = Layout::of(n.name, n.shape);
    let folded = lead == 1 && rows == 1;
    let line = if folded { (width as f64).sqrt().ceil() as usize } else { width }.max(1);
    let rows = if folded { width.div_ceil(line) } else { rows };
    let across = line.min(COLUMNS / lead.clamp(1, 4)).max(1);
    let down = rows.min((CELLS / (lead * across).max(1)).max(8)).max(1);
    let mut panels = vec![vec![0.0; down * across]; lead];
    for (i, ratio) in ratios(n).into_iter().enumerate() {
        let (row, c) = (i / line, i % line);
        let (panel, row) = (row / rows.max(1), row % rows.max(1));
        let cell: &mut f64 = &mut panels[panel][row * down / rows * across + c * across / line];
        if ratio > *cell || ratio.is_nan() {
            *cell = ratio;
        }
    }
    Map { stage: n.name.into(), sides: [lead, rows, line], cells: [down, across], panels, allowed: LOCAL, folded }
}

/// The stage to draw: the first failed stage of numbers in causal order, or else the stage nearest to its limit.
pub(super) fn worst(stages: &[StageVerdict]) -> Option<&str> {
    let measured = |s: &&StageVerdict| s.whole.is_some() || s.words.contains("NaN");
    let failed = stages.iter().find(|s| s.outcome == Outcome::Fail && measured(s));
    let share = |s: &StageVerdict| s.ratio.zip(s.allowed).map_or(0.0, |(r, a)| r / a);
    let near = || stages.iter().filter(measured).max_by(|a, b| share(a).total_cmp(&share(b)));
    failed.or_else(near).map(|s| s.stage.as_str())
}
