//! The error of a stage in numbers that show where it is: whole, by head, by row, by column, and along the truth
//! itself. Not here: the limits of an error.

use crate::num::Real;
use crate::stage::{Site, Stage};
use ndarray::ArrayViewD;
use std::ops::Range;

/// A stage seen as [lead, rows, width]: heads (or 1), rows of the prompt, numbers per row. Spec: D10.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Heads that are stored separately.
    pub lead: usize,
    /// Rows.
    pub rows: usize,
    /// Numbers per row.
    pub width: usize,
    /// Whether all numbers share the errors of a few, as weights that are divided by one sum do.
    pub shared: bool,
}

/// Columns are judged if the stage has at least this many rows.
pub(super) const ROWS_FOR_COLUMNS: usize = 16;

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
        let shared = Stage::parse(name)
            .is_some_and(|at| at.row().part == "policy" || matches!(at.site, Site::Relevance | Site::Votes));
        Layout { lead, rows, width, shared }
    }

    /// Whether columns are judged.
    pub fn columns(self) -> bool {
        self.rows >= ROWS_FOR_COLUMNS
    }

    /// The number of scales: lead · width, or lead if columns are not judged.
    pub fn scales(self) -> usize {
        self.lead * if self.columns() { self.width } else { 1 }
    }

    /// The number of numbers in a flattened [`Errors`].
    pub fn flat(self) -> usize {
        3 + 2 * self.scales() + 2 * self.lead * self.rows
    }

    /// The scales of row i: one for each column, or one for all.
    fn scales_of(self, i: usize) -> Range<usize> {
        let (lead, each) = (i / self.rows.max(1), if self.columns() { self.width } else { 1 });
        lead * each..(lead + 1) * each
    }
}

/// The numbers of a stage, row-major. An array's own iterator takes ten times as long.
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

/// Row-major coordinates of an element.
pub(super) fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &side) in index.iter_mut().zip(shape).rev() {
        *i = flat % side.max(1);
        flat /= side.max(1);
    }
    index
}

/// The errors of a stage. Spec: D10.2
///
/// A few columns of a residual stream are a hundred times as large as the other columns, and so are their errors. Rows
/// are therefore measured in units of the usual error of each column, so that all columns count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Errors {
    /// Root of the mean squared error of all elements.
    pub whole: f64,
    /// a of the best fit error = a · truth: by which share the whole stage is too large or too small.
    pub gain: f64,
    /// Root mean square over columns of a column's mean error, in units of the scale: the error that does not average
    /// out.
    pub trend: f64,
    /// The units that rows are measured in, one for each column: [lead · width], or [lead] if there are few rows.
    pub scale: Vec<f64>,
    /// Root mean square error of each column, in the shape of the scale.
    pub columns: Vec<f64>,
    /// Root mean square and largest error of each row, in units of the scale: [lead · rows].
    pub rows: Vec<[f64; 2]>,
}

/// Every unit is at least this share of the whole stage's error.
const LEAST_SCALE: f64 = 0.05;

impl Errors {
    /// The errors of `value` against `truth`, both row-major in the layout; in units of `scale`, or else of their own
    /// columns.
    pub fn of(layout: Layout, truth: &[f64], value: &[f64], scale: Option<&[f64]>) -> Errors {
        let width = layout.width.max(1);
        let (mut columns, mut means) = (vec![0.0; layout.scales()], vec![0.0; layout.scales()]);
        let (mut squares, mut along, mut size) = (0.0, 0.0, 0.0);
        let rows = || truth.chunks_exact(width).zip(value.chunks_exact(width)).enumerate();
        for (i, (truth, value)) in rows() {
            for (&t, &v) in truth.iter().zip(value) {
                let e = v - t;
                squares += e * e;
                along += e * t;
                size += t * t;
            }
            let of_row = layout.scales_of(i);
            let (columns, means) = (&mut columns[of_row.clone()], &mut means[of_row]);
            let mut add = |c: usize, e: f64| (columns[c], means[c]) = (columns[c] + e * e, means[c] + e);
            match layout.columns() {
                true => truth.iter().zip(value).enumerate().for_each(|(c, (t, v))| add(c, v - t)),
                false => truth.iter().zip(value).for_each(|(t, v)| add(0, v - t)),
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
            // One scale for each column, or the same for all.
            for ((&t, &v), scale) in truth.iter().zip(value).zip(scale[layout.scales_of(i)].iter().cycle()) {
                let e = ((v - t) / scale).abs();
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

    /// Takes the larger absolute value of each number, in units of this one's scale. NaN stays NaN.
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

    /// The inverse of [`flatten`](Self::flatten); none if the list has a wrong length for the layout.
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

    /// The unit in which element `flat` of the stage is measured.
    pub fn unit(&self, layout: Layout, flat: usize) -> f64 {
        let of_row = layout.scales_of(flat / layout.width.max(1));
        self.scale[of_row.start + flat % layout.width.max(1) % of_row.len()]
    }

    /// Root mean square error of each head, from its rows.
    pub fn heads(&self, layout: Layout) -> Vec<f64> {
        let rms = |rows: &[[f64; 2]]| (rows.iter().map(|r| r[0] * r[0]).sum::<f64>() / rows.len() as f64).sqrt();
        self.rows.chunks(layout.rows.max(1)).map(rms).collect()
    }
}
