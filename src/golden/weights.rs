//! The type of the weights that a candidate read. A program in a half type rounds an f32 checkpoint's weights to its type,
//! or only the matrices, or none: all of it is honest. A replay computes with the weights that explain the candidate
//! best. Spec: R10.4

use super::Bundle;
use super::measure::flat;
use super::rerun::Rerun;
use crate::error::Result;
use crate::generate;
use crate::model::Rounded;
use crate::num::{Grid, Real};
use crate::pass::{Pass, Tap, Way};
use crate::stage::{Kind, Stage};
use crate::weights::Dtype;
use ndarray::ArrayViewD;

/// The model with the weights that are nearest to the candidate's, and a note if they are not those of its type.
///
/// # Errors
/// As the pass.
pub(super) fn nearest<'m>(
    run: &Rerun<'m>,
    candidate: &Bundle,
    grid: Grid,
) -> Result<(Rounded<'m>, Option<&'static str>)> {
    let model = run.model;
    let rounded = model.rounded(grid)?;
    if !rounded.is_copy() || !model.checkpoint.tensors().any(|t| t.dtype == Dtype::F32) {
        return Ok((rounded, None));
    }
    let mut best = (distance(run, &rounded, candidate, grid)?, rounded, None);
    let matrices = model.rounded_matrices(grid)?;
    if matrices.is_copy() {
        let far = distance(run, &matrices, candidate, grid)?;
        if far < best.0 {
            best = (
                far,
                matrices,
                Some("norms and biases are the checkpoint's, in f32: the candidate did not round them"),
            );
        }
    }
    if distance(run, model, candidate, grid)? < best.0 {
        let note = "all weights are the checkpoint's, in f32: the candidate did not round them";
        return Ok((Rounded::Same(model), Some(note)));
    }
    Ok((best.1, best.2))
}

/// The sum over the candidate's stages of their squared relative distance from what these weights give.
fn distance(run: &Rerun<'_>, model: &crate::model::Model, candidate: &Bundle, grid: Grid) -> Result<f64> {
    let mut apart = Apart { candidate, sum: 0.0 };
    let Some(given) = run.given else { return Ok(0.0) };
    let mut pass = Pass::<f32>::watched(grid, &mut apart).by(Way::default()).replaying(given);
    generate::prefill(model, &mut pass, run.prompt, std::slice::from_ref(run.policy))?;
    Ok(apart.sum)
}

/// No type's rounding moves a stage by this share of its size, squared. Spec: R10.4
const FAR: f64 = 1e-3;

/// Adds up how far the candidate is from a pass.
struct Apart<'a> {
    candidate: &'a Bundle,
    sum: f64,
}

impl<T: Real> Tap<T> for Apart<'_> {
    fn wants(&self, at: Stage) -> bool {
        at.row().kind == Kind::Numbers && self.candidate.get(&at.name()).is_some()
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        let name = at.name();
        let Ok(got) = self.candidate.flat(&name) else { return };
        let ours = flat(&value);
        if self.candidate.get(&name).is_none_or(|t| t.shape != value.shape()) {
            return;
        }
        let squares =
            |values: &mut dyn Iterator<Item = f64>| values.filter(|v| v.is_finite()).map(|v| v * v).sum::<f64>();
        let size = squares(&mut ours.iter().copied());
        let far = squares(&mut ours.iter().zip(&got).map(|(a, b)| a - b)) / size;
        // A stage that is far off by any weights follows from values that the bundle lacks, or from a bug.
        if far < FAR {
            self.sum += far;
        }
    }
}
