//! How far a stage is off, in numbers that say where: whole, by head, by row, by column, and along the truth itself.
//! Not here: how far it may be off.

use crate::num::Real;
use crate::stage::Stage;
use ndarray::ArrayViewD;

/// A stage seen as [lead, rows, width]: heads (or 1), rows of the prompt, numbers of a row. Spec: D10.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Heads that are stored apart.
    pub lead: usize,
    /// Rows.
    pub rows: usize,
    /// Numbers of a row.
    pub width: usize,
}

/// Columns are judged where at least this many rows speak for them.
const ROWS_FOR_COLUMNS: usize = 16;

impl Layout {
    /// The layout of a stage of this name and shape.
    pub fn of(name: &str, shape: &[usize]) -> Layout {
        let heads = Stage::parse(name).filter(|at| at.row().by_head());
        let (lead, width) = match *shape {
            [lead, _, width] if heads.is_some_and(|at| !at.is_step()) => (lead, width),
            [lead, width] if heads.is_some_and(Stage::is_step) => (lead, width),
            [.., width] => (1, width),
            [] => (1, 1),
        };
        let rows = shape.iter().product::<usize>() / (lead * width).max(1);
        Layout { lead, rows, width }
    }

    /// Whether columns are judged.
    pub fn columns(self) -> bool {
        self.rows >= ROWS_FOR_COLUMNS
    }

    /// Numbers that one scale each has: [lead · width], or [lead] where columns are not judged.
    pub fn scales(self) -> usize {
        self.lead * if self.columns() { self.width } else { 1 }
    }

    /// Numbers of a flattened [`Errors`].
    pub fn flat(self) -> usize {
        3 + 2 * self.scales() + 2 * self.lead * self.rows
    }

    /// The scale of element c of row i.
    fn scale_of(self, i: usize, c: usize) -> usize {
        let lead = i / self.rows.max(1);
        if self.columns() { lead * self.width + c } else { lead }
    }
}

/// The numbers of a stage, row-major; an array's own iterator takes ten times as long.
pub(super) fn flat<T: Real>(value: &ArrayViewD<'_, T>) -> Vec<f64> {
    let mut all = Vec::with_capacity(value.len());
    if let Some(values) = value.as_slice() {
        all.extend(values.iter().map(|v| v.to_f64()));
    } else if value.ndim() > 0 {
        for row in value.rows() {
            match row.as_slice() {
                Some(row) => all.extend(row.iter().map(|v| v.to_f64())),
                None => all.extend(row.iter().map(|v| v.to_f64())),
            }
        }
    } else {
        all.extend(value.iter().map(|v| v.to_f64()));
    }
    all
}

/// Row-major coordinates.
pub(super) fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &side) in index.iter_mut().zip(shape).rev() {
        *i = flat % side.max(1);
        flat /= side.max(1);
    }
    index
}

/// What a stage is off by. Spec: D10.2
///
/// Few columns of a residual stream are a hundred times as large as the others, and so are their errors. Rows are
/// therefore measured in units of their columns' usual error, which gives all columns a say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Errors {
    /// Root of the mean squared error of all elements.
    pub whole: f64,
    /// a of the best fit error = a · truth: how much too large or too small everything is.
    pub gain: f64,
    /// Root mean square over columns of the mean error of a column, in units of the scale: what does not average out.
    pub trend: f64,
    /// The units that rows are measured in, one a column: [lead · width], or [lead] where rows are few.
    pub scale: Vec<f64>,
    /// Root mean square error of each column, in the shape of the scale.
    pub columns: Vec<f64>,
    /// Root mean square and largest error of each row, in units of the scale: [lead · rows].
    pub rows: Vec<[f64; 2]>,
}

/// No unit is smaller than this share of the whole stage's error.
const LEAST_SCALE: f64 = 0.05;

impl Errors {
    /// The errors of `value` against `truth`, both row-major in the layout; in units of `scale`, or of their own columns.
    pub fn of(layout: Layout, truth: &[f64], value: &[f64], scale: Option<&[f64]>) -> Errors {
        let width = layout.width.max(1);
        let (mut columns, mut means) = (vec![0.0; layout.scales()], vec![0.0; layout.scales()]);
        let (mut squares, mut along, mut size) = (0.0, 0.0, 0.0);
        let rows = || truth.chunks_exact(width).zip(value.chunks_exact(width)).enumerate();
        for (i, (truth, value)) in rows() {
            for (c, (&t, &v)) in truth.iter().zip(value).enumerate() {
                let e = v - t;
                squares += e * e;
                along += e * t;
                size += t * t;
                columns[layout.scale_of(i, c)] += e * e;
                means[layout.scale_of(i, c)] += e;
            }
        }
        let each = (truth.len() / layout.scales().max(1)).max(1) as f64;
        columns.iter_mut().for_each(|c| *c = (*c / each).sqrt());
        let whole = (squares / truth.len().max(1) as f64).sqrt();
        let own = || columns.iter().map(|c| c.max(LEAST_SCALE * whole));
        let scale: Vec<f64> = match scale {
            Some(scale) => scale.to_vec(),
            None => own().map(|s| if s > 0.0 && s.is_finite() { s } else { 1.0 }).collect(),
        };
        let row = |(i, (truth, value)): (usize, (&[f64], &[f64]))| {
            let mut row = [0.0, 0.0f64];
            for (c, (&t, &v)) in truth.iter().zip(value).enumerate() {
                let e = ((v - t) / scale[layout.scale_of(i, c)]).abs();
                row = [row[0] + e * e, if e > row[1] || e.is_nan() { e } else { row[1] }];
            }
            [(row[0] / width as f64).sqrt(), row[1]]
        };
        let rows = rows().map(row).collect();
        let trends = means.iter().zip(&scale).map(|(m, s)| (m / each / s).powi(2));
        let trend = (trends.sum::<f64>() / means.len().max(1) as f64).sqrt();
        Errors { whole, gain: if size > 0.0 { along / size } else { 0.0 }, trend, scale, columns, rows }
    }

    /// No error at all.
    pub fn none(layout: Layout) -> Errors {
        Errors {
            whole: 0.0,
            gain: 0.0,
            trend: 0.0,
            scale: vec![1.0; layout.scales()],
            columns: vec![0.0; layout.scales()],
            rows: vec![[0.0; 2]; layout.lead * layout.rows],
        }
    }

    /// The larger of each number, as amounts, in units of this one's scale. What is not a number stays so.
    pub fn widen(&mut self, other: &Errors) {
        let larger = |a: &mut f64, b: f64| *a = if b.abs() > a.abs() || b.is_nan() { b.abs() } else { a.abs() };
        larger(&mut self.whole, other.whole);
        larger(&mut self.gain, other.gain);
        larger(&mut self.trend, other.trend);
        let rows = self.rows.as_flattened_mut().iter_mut().zip(other.rows.as_flattened());
        rows.chain(self.columns.iter_mut().zip(&other.columns)).for_each(|(a, &b)| larger(a, b));
    }

    /// All numbers one after the other: whole, gain, trend, scale, columns, rows. Spec: D10.3
    pub fn flatten(&self) -> Vec<f32> {
        let rest = self.scale.iter().chain(&self.columns).chain(self.rows.as_flattened());
        [self.whole, self.gain, self.trend].iter().chain(rest).map(|&v| v as f32).collect()
    }

    /// The reverse; none where the layout has another number of numbers.
    pub fn unflatten(layout: Layout, flat: &[f64]) -> Option<Errors> {
        if flat.len() != layout.flat() || flat[3..3 + layout.scales()].iter().any(|s| s.is_nan() || *s <= 0.0) {
            return None;
        }
        let (scale, rest) = flat[3..].split_at(layout.scales());
        let (columns, rows) = rest.split_at(layout.scales());
        Some(Errors {
            whole: flat[0],
            gain: flat[1],
            trend: flat[2],
            scale: scale.to_vec(),
            columns: columns.to_vec(),
            rows: rows.as_chunks::<2>().0.to_vec(),
        })
    }

    /// The unit that element `flat` of the stage is measured in.
    pub fn unit(&self, layout: Layout, flat: usize) -> f64 {
        self.scale[layout.scale_of(flat / layout.width.max(1), flat % layout.width.max(1))]
    }

    /// Root mean square error of each head, from its rows.
    pub fn heads(&self, layout: Layout) -> Vec<f64> {
        let rms = |rows: &[[f64; 2]]| (rows.iter().map(|r| r[0] * r[0]).sum::<f64>() / rows.len() as f64).sqrt();
        self.rows.chunks(layout.rows.max(1)).map(rms).collect()
    }
}
