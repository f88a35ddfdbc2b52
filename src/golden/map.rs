//! A stage of numbers as a map: how far each part of it is off, small enough to draw. Not here: drawing.

use super::measure::Layout;
use super::numbers::{LOCAL, Numbers, ratios};
use super::verdict::{Outcome, StageVerdict};

/// Cells of all panels together, at most, and columns of one.
const CELLS: usize = 16_384;
const COLUMNS: usize = 96;

/// The largest |e| / ruler in each part of a stage. Spec: D10.9
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// The stage.
    pub stage: String,
    /// Panels (heads, or 1), rows and numbers of a row; a stage of one row is cut into lines of equal length.
    pub sides: [usize; 3],
    /// Cells of a panel: down, across.
    pub cells: [usize; 2],
    /// [panel][down · across]: element error in rulers; NaN where a number is none.
    pub panels: Vec<Vec<f64>>,
    /// How many rulers an element may be off. Spec: T10.3
    pub allowed: f64,
    /// Whether it is one row, cut into lines.
    pub folded: bool,
}

impl Map {
    /// The map of a stage. Spec: D10.9
    pub(super) fn of(n: &Numbers<'_>) -> Map {
        let Layout { lead, rows, width } = Layout::of(n.name, n.shape);
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
}

/// The stage to draw: the first failure in causal order that has numbers, or else what used up most of what is allowed.
pub(super) fn worst(stages: &[StageVerdict]) -> Option<&str> {
    let measured = |s: &&StageVerdict| s.whole.is_some() || s.words.contains("NaN");
    let failed = stages.iter().find(|s| s.outcome == Outcome::Fail && measured(s));
    let share = |s: &StageVerdict| s.ratio.zip(s.allowed).map_or(0.0, |(r, a)| r / a);
    let near = || stages.iter().filter(measured).max_by(|a, b| share(a).total_cmp(&share(b)));
    failed.or_else(near).map(|s| s.stage.as_str())
}
