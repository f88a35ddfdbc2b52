//! Rotary angles that are honest in f32, and still differ. The truth of a rotated pair is an arc, not a point: every
//! angle of the arc is honest. A candidate is compared with the point of the arc that is nearest to it, and so are the
//! honest ways whose noise is measured. Spec: D10.11

use super::measure::Layout;
use super::{Bundle, BundleWriter, rows};
use crate::error::Result;
use crate::input::{Positions, Prepared};
use crate::model::Model;
use crate::stage::{Site, Stage};

/// The name of the tensor that has the half lengths of the arcs of a stage's rows; none if no row is rotated.
fn name(stage: Stage) -> Option<String> {
    match stage.site {
        Site::Query | Site::Key => Some("noise.angles".into()),
        Site::StepQuery | Site::StepKey => Some(format!("noise.step.{:04}.angles", stage.step)),
        _ => None,
    }
}

/// The frequencies of a head's pairs, and the axis of the position that each is multiplied with: F64 [2, d_h/2]. For
/// words alone. Spec: D11.6
pub(super) const FREQUENCIES: &str = "noise.frequencies";

/// Writes the half lengths of the arcs: [n, d_h/2] for the prompt, \[d_h/2\] for each step, in radians.
///
/// # Errors
/// As the writer.
pub(super) fn put(model: &Model, prompt: &Prepared, steps: usize, out: &mut BundleWriter) -> Result<()> {
    let (n, decoder) = (prompt.ids.len(), &model.decoder);
    let length = prompt.positions.next_of(0..n);
    let mut write = |name: Option<String>, shape: &[usize], slack: ndarray::Array2<f64>| {
        let flat: Vec<f32> = slack.iter().map(|&v| v as f32).collect();
        name.map_or(Ok(()), |name| out.put_f32(&name, shape, &flat))
    };
    let slack = decoder.angle_slack(n, &prompt.positions, length);
    write(name(Stage::layer(Site::Query, 0)), &[n, slack.ncols()], slack)?;
    for t in 0..steps {
        let at = length + t as i64;
        let slack = decoder.angle_slack(1, &Positions::Linear(vec![at]), at + 1);
        write(name(Stage::of_step(Site::StepQuery, t, 0)), &[slack.ncols()], slack)?;
    }
    let pairs = decoder.frequencies(length);
    let flat: Vec<f64> = pairs.iter().map(|p| p.0).chain(pairs.iter().map(|p| p.1 as f64)).collect();
    out.put_f64(FREQUENCIES, &[2, pairs.len()], &flat)
}

/// The half lengths of the arcs of a stage's rows, [rows, d_h/2] row-major; none if the stage is not rotated, or if the
/// golden does not tell. chosen: the rows that the golden kept, if it did not keep all.
pub(super) fn of(golden: &Bundle, stage: &str, layout: Layout, chosen: Option<&[usize]>) -> Option<Vec<f64>> {
    let name = name(Stage::parse(stage)?)?;
    let slack = golden.get(&name).and_then(|_| golden.flat(&name).ok())?;
    fit(slack, layout, chosen)
}

/// As [`of`], while the golden is being written. whole: the layout of the stage before rows were chosen.
///
/// # Errors
/// As the writer.
pub(super) fn waiting(out: &mut BundleWriter, stage: &str, whole: Layout, kept: Layout) -> Result<Option<Vec<f64>>> {
    let Some(name) = Stage::parse(stage).and_then(name) else { return Ok(None) };
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
    let pairs = layout.width / 2;
    let rows = truth.chunks_exact_mut(layout.width.max(1)).zip(got.chunks_exact(layout.width.max(1)));
    for (row, (truth, got)) in rows.enumerate() {
        let slack = &slack[row % layout.rows * pairs..][..pairs];
        for (i, &most) in slack.iter().enumerate() {
            let ((a, b), (x, y)) = ((truth[i], truth[i + pairs]), (got[i], got[i + pairs]));
            let turn = libm::atan2(a * y - b * x, a * x + b * y).clamp(-most, most);
            if turn.is_finite() {
                let (sin, cos) = libm::sincos(turn);
                (truth[i], truth[i + pairs]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
    }
}
