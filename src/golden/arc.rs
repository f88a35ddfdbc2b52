//! Rotary angles that are honest in f32, and still differ. The truth of a rotated pair is an arc, not a point: every
//! angle of the arc is honest. A candidate is compared with the point of the arc that is nearest to it, and so are the
//! honest ways whose noise is measured. Spec: D10.11

use super::measure::Layout;
use super::{Bundle, BundleWriter, rows};
use crate::error::Result;
use crate::input::{Positions, Prepared};
use crate::model::Model;
use crate::stage::{Site, Stage};
use ndarray::Axis;
use rayon::prelude::*;

/// The names of the tensors that may have the half lengths of the arcs of a stage's rows, the first that exists counts;
/// none if no row is rotated. A layer after a cut (D9.9) has a tensor of its own.
fn names(stage: Stage) -> Vec<String> {
    match stage.site {
        Site::Query | Site::Key => vec![of_layer(stage.layer), "noise.angles".into()],
        Site::StepQuery | Site::StepKey => vec![of_step(stage.step)],
        _ => vec![],
    }
}

fn of_layer(layer: usize) -> String {
    format!("noise.{layer:02}.angles")
}

fn of_step(step: usize) -> String {
    format!("noise.step.{step:04}.angles")
}

/// The frequencies of a head's pairs, and the axis of the position that each is multiplied with: F64 [2, d_h/2]. For
/// words alone. Spec: D11.6
pub(super) const FREQUENCIES: &str = "noise.frequencies";

/// Writes the half lengths of the arcs: [n, d_h/2] for the prompt, \[d_h/2\] for each step, in radians. left: the rows of
/// each layer, if not all layers have all rows.
///
/// # Errors
/// As the writer.
pub(super) fn put(
    model: &Model,
    prompt: &Prepared,
    (steps, left): (usize, &[Vec<usize>]),
    out: &mut BundleWriter,
) -> Result<()> {
    let (n, decoder) = (prompt.ids.len(), &model.decoder);
    let positions = left.first().map_or_else(|| prompt.positions.clone(), |rows| prompt.positions.closed(rows)); // C9.10a
    let length = positions.next();
    let mut write = |name: &str, shape: &[usize], slack: ndarray::Array2<f64>| {
        let flat: Vec<f32> = slack.iter().map(|&v| v as f32).collect();
        out.put_f32(name, shape, &flat)
    };
    let slack = decoder.angle_slack(n, &positions, length);
    for (l, rows) in left.iter().enumerate().filter(|(_, rows)| rows.len() < n) {
        write(&of_layer(l), &[rows.len(), slack.ncols()], slack.select(Axis(0), rows))?;
    }
    write("noise.angles", &[n, slack.ncols()], slack)?;
    for t in 0..steps {
        let at = length + t as i64;
        let slack = decoder.angle_slack(1, &Positions::Linear(vec![at]), at + 1);
        write(&of_step(t), &[slack.ncols()], slack)?;
    }
    let pairs = decoder.frequencies(length);
    let flat: Vec<f64> = pairs.iter().map(|p| p.0).chain(pairs.iter().map(|p| p.1 as f64)).collect();
    out.put_f64(FREQUENCIES, &[2, pairs.len()], &flat)
}

/// The half lengths of the arcs of a stage's rows, [rows, d_h/2] row-major; none if the stage is not rotated, or if the
/// golden does not tell. chosen: the rows that the golden kept, if it did not keep all.
pub(super) fn of(golden: &Bundle, stage: &str, layout: Layout, chosen: Option<&[usize]>) -> Option<Vec<f64>> {
    let name = names(Stage::parse(stage)?).into_iter().find(|name| golden.get(name).is_some())?;
    let slack = golden.get(&name).and_then(|_| golden.flat(&name).ok())?;
    fit(slack, layout, chosen)
}

/// As [`of`], while the golden is being written. whole: the layout of the stage before rows were chosen.
///
/// # Errors
/// As the writer.
pub(super) fn waiting(out: &mut BundleWriter, stage: &str, whole: Layout, kept: Layout) -> Result<Option<Vec<f64>>> {
    let names = Stage::parse(stage).map_or(vec![], names);
    let Some(name) = names.into_iter().find(|name| out.shape(name).is_some()) else { return Ok(None) };
    let chosen = (kept.rows < whole.rows).then(|| rows::chosen(whole.rows, kept.rows));
    Ok(out.numbers(&name)?.and_then(|slack| fit(slack, kept, chosen.as_deref())))
}

/// The rows of a stage of this layout, of all rows.
fn fit(slack: Vec<f64>, layout: Layout, chosen: Option<&[usize]>) -> Option<Vec<f64>> {
    let pairs = layout.width / 2;
    let slack = match chosen {
        Some(chosen) => chosen.iter().flat_map(|r| slack.iter().skip(r * pairs).take(pairs)).copied().collect(),
        None => slack,
    };
    (slack.len() == layout.rows * pairs && slack.iter().all(|s| s.is_finite() && *s >= 0.0)).then_some(slack)
}

/// Turns every pair of the truth towards the same pair of `got`, by at most the slack of its angle. truth, got:
/// row-major in the layout; slack: [rows, d_h/2]. Spec: D10.11
pub(super) fn nearest(layout: Layout, slack: &[f64], truth: &mut [f64], got: &[f64]) {
    let (pairs, width) = (layout.width / 2, layout.width.max(1));
    let rows = truth.par_chunks_exact_mut(width).zip(got.par_chunks_exact(width)).with_min_len(ROWS);
    rows.enumerate().for_each(|(row, (truth, got))| {
        let slack = &slack[row % layout.rows * pairs..][..pairs];
        for (i, &most) in slack.iter().enumerate() {
            let ((a, b), (x, y)) = ((truth[i], truth[i + pairs]), (got[i], got[i + pairs]));
            let turn = libm::atan2(a * y - b * x, a * x + b * y).clamp(-most, most);
            if turn.is_finite() {
                let (sin, cos) = libm::sincos(turn);
                (truth[i], truth[i + pairs]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
    });
}

/// A thread turns at least this many rows.
const ROWS: usize = 16;
