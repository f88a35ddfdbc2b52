//! Drift: errors that are small everywhere but follow a direction. A mistake in an activation, in a norm's ε or in one
//! output of a layer stays below the noise of every number. But such a mistake moves a stage along a direction: along
//! it the mistake's errors add up, and errors of rounding do not. To find a direction, the model is run with a small
//! mistake on purpose; this works for any model. Spec: D10.8, E10.10

use super::aslant::{Aslant, Found, Habits, Hats, larger};
use super::fit::{Drift, Fit, together};
use super::holding::Held;
use super::lanes::{self, Shared, lock};
use super::rulers::DRIFT;
use super::{Bundle, BundleWriter, said::Types};
use crate::error::Result;
use crate::generate;
use crate::num::Grid;
use crate::pass::{Aside, Branch, Pass, Way};
use crate::stage::Stage;
use std::collections::BTreeMap;

/// The mistakes that are tried. Spec: D10.8
const ASIDES: [Aside; 9] = [
    Aside::Activation(-3),
    Aside::Activation(-2),
    Aside::Activation(-1),
    Aside::Activation(0),
    Aside::Activation(1),
    Aside::Activation(2),
    Aside::Epsilon,
    Aside::Branch(Branch::Attention),
    Aside::Branch(Branch::Mlp),
];

/// The runs of the model.
pub(super) const RUNS: usize = ASIDES.len();

/// The drift of the other honest ways along the activations counts this many times. Spec: E10.10
const BEND: f64 = 1.5;
/// The activations together are judged from this many draws for each of them on. Spec: E10.10
const DRAWS: f64 = 8.0;
/// χ² with six degrees of freedom exceeds x² as seldom as a normal number exceeds 8; this is x / 8. Spec: E10.10
const SIX: f64 = 1.2;

/// The largest drift in each stage of a candidate in a replay, by the noise of the stage's own type. Spec: E10.10, D11.13
///
/// # Errors
/// As the pass, and as the waiting file.
pub(super) fn drifts(
    run: &super::rerun::Rerun<'_>,
    candidate: &Bundle,
    types: &Types,
    truth: &mut BundleWriter,
) -> Result<BTreeMap<String, Drift>> {
    let (mut found, mut hats, held) = (Found::new(), Hats::new(), Held::default());
    let Some(given) = run.given else { return Ok(found) };
    let (bytes, truth) = (truth.bytes(), Shared::new(truth));
    let along = |aside: Option<Aside>, habits: Option<&mut Habits>| -> Result<(Hats, Found)> {
        let (held, hats, found) = (&held, Hats::new(), Found::new());
        let (truth, waiting) = (&truth, vec![]);
        let mut sink = Aslant { truth, candidate, types, aside, held, hats, found, habits, waiting, failed: None };
        if aside.is_none() {
            // The direction along the truth needs no run.
            let passes = |at: &Stage| matches!(at.row().part, "vision" | "projector" | "decoder");
            for stage in Stage::sorted(candidate.names()).into_iter().filter(passes).map(|at| at.to_string()) {
                let shape = candidate.stage(&stage)?.shape;
                if lock(sink.truth).shape(&stage) == Some(shape) {
                    sink.see(&stage, shape, None)?;
                }
            }
            sink.fit_all()?;
            return Ok((sink.hats, sink.found));
        }
        let way = Way { aside, ..Way::default() };
        let mut pass = Pass::<f32>::watched(Grid::Native, &mut sink).by(way).replaying(given);
        generate::prefill(run.model, &mut pass, run.prompt, std::slice::from_ref(run.policy))?;
        sink.failed.take().map_or(Ok(()), Err)?;
        sink.fit_all()?;
        Ok((sink.hats, sink.found))
    };
    // The first direction finds what most directions share; the last one reads all stages.
    let [first, others @ ..] = ASIDES;
    let mut all = vec![along(Some(first), None)?];
    all.extend(lanes::each(others.to_vec(), bytes, |aside| along(Some(aside), None))?);
    all.push(along(None, None)?);
    for (fits, drifts) in all {
        fits.into_iter().for_each(|(stage, fits)| hats.entry(stage).or_default().extend(fits));
        drifts.into_iter().for_each(|(stage, drift)| larger(&mut found, stage, drift));
    }
    // A drift along the activations has to be larger than what other honest ways show along them.
    let mut bent: BTreeMap<String, Drift> =
        hats.iter().filter_map(|(at, fits)| Some((at.clone(), bend(fits)?))).collect();
    let suspects = bent.iter().filter(|(_, drift)| drift.ratio() > DRIFT);
    let mut habits: Habits = suspects.map(|(stage, _)| (stage.clone(), Vec::new())).collect();
    if !habits.is_empty() {
        for aside in ASIDES.into_iter().filter(|aside| matches!(aside, Aside::Activation(_))) {
            along(Some(aside), Some(&mut habits))?;
        }
    }
    for (stage, ways) in habits {
        let habit = ways.iter().map(|fits| together(fits) / SIX).fold(0.0, f64::max);
        bent.entry(stage).and_modify(|drift| drift.ruler *= (BEND * habit / DRIFT).max(1.0));
    }
    bent.into_iter().for_each(|(stage, drift)| larger(&mut found, stage, drift));
    Ok(found)
}

/// The drift along all activations together; the largest one names it. Spec: E10.10
fn bend(fits: &[(bool, String, Fit)]) -> Option<Drift> {
    let ratio = |fit: &Fit| fit.a.abs() / fit.ruler();
    if fits.iter().any(|f| f.2.draws < DRAWS * fits.len() as f64) {
        return None;
    }
    let (_, along, fit) = fits.iter().filter(|f| f.0).max_by(|a, b| ratio(&a.2).total_cmp(&ratio(&b.2)))?;
    let all: Vec<Fit> = fits.iter().map(|f| f.2.clone()).collect();
    Some(Drift { along: along.clone(), error: fit.a.abs(), ruler: fit.a.abs() * SIX / together(&all) })
}
