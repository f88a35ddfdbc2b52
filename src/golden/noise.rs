//! The ruler: the errors of honest computations in each type against the truth. A golden stores these errors beside the
//! truth.

use super::given::Decided;
use super::lanes::{self, Shared, TOGETHER, lock};
use super::measure::{Errors, Layout, flat};
use super::rerun::{Honest, Rerun, Sink, ways};
use super::rulers::drifts;
use super::said::Types;
use super::{Bundle, BundleWriter, arc, rows, widths};
use crate::cache::Cache;
use crate::error::{Error, Result, ensure};
use crate::input::Prepared;
use crate::model::Model;
use crate::num::Real;
use crate::pass::{Precision, Tap};
use crate::policy::{Plan, Policy, Retain, Values};
use crate::stage::Stage;
use crate::weights::Dtype;
use ndarray::ArrayViewD;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The types whose noise a golden stores. Spec: T10.1
pub(super) const TYPES: [Precision; 3] = [Precision::Fast, Precision::Bf16, Precision::F16];

/// The name of a stage's noise in a golden. Spec: D10.3
pub(super) fn name(precision: Precision, stage: &str) -> String {
    // Eager code computes norms and softmax in f32 in every type: f64 shows the noise of f32 (A10.1).
    let of = if precision == Precision::Truth { Precision::Fast } else { precision };
    format!("noise.{}.{}", of.bundle_name(), stage.trim_start_matches("noise."))
}

/// The name of a stage's value by an honest way, in the waiting file of a replay.
pub(super) fn way(way: usize, stage: &str) -> String {
    format!("way.{way}.{stage}")
}

/// The noise of a stage in a golden; none if the golden has no noise of the stage, or none that fits. Spec: D10.3
pub(super) fn read(golden: &Bundle, precision: Precision, stage: &str, layout: Layout) -> Option<Errors> {
    let name = name(precision, stage);
    let flat = golden.get(&name).and_then(|_| golden.f64(&name).ok())?;
    Errors::unflatten(layout, flat.as_slice()?)
}

/// Checks the noise in a golden.
///
/// # Errors
/// Noise of a stage has a wrong type or size, or units that are not above 0.
pub(super) fn check(golden: &Bundle, precision: Precision) -> Result<()> {
    // The noise of decisions has other forms.
    for stage in golden.names().filter(|stage| Stage::parse(stage).is_some_and(|at| at.row().part != "policy")) {
        let (name, shape) = (name(precision, stage), golden.stage(stage)?.shape);
        let Some(found) = golden.get(&name) else { continue };
        let layout = Layout::of(stage, shape);
        ensure!(
            read(golden, precision, stage, layout).is_some(),
            format!("{}: {name}", golden.label()),
            format!("{} numbers, the {} units above 0", layout.flat(), layout.scales()),
            format!("{} {:?}", found.dtype, found.shape),
            "record the golden again"
        );
    }
    Ok(())
}

/// Compares the values of a run with the truth, which waits in a bundle being written. Stages wait until they are some,
/// so that all threads compare.
struct Comparison<'a, 'w> {
    truth: &'a Shared<'w>,
    precision: Precision,
    /// The errors of the first way, whose scales all ways are measured in; empty while they are measured.
    first: &'a Noise,
    noise: Noise,
    /// The number of the way, and the types of the stages: the values of stages of this type are kept.
    kept: Option<(usize, &'a Types)>,
    waiting: Vec<Compared>,
    failed: Option<Error>,
}

/// The errors of stages, by name.
type Noise = BTreeMap<String, Errors>;

/// A stage to be compared with its truth.
struct Compared {
    stage: String,
    shape: Vec<usize>,
    layout: Layout,
    truth: Vec<f64>,
    slack: Option<Vec<f64>>,
    values: Vec<f64>,
}

impl Comparison<'_, '_> {
    fn compare(&mut self, stage: &str, shape: &[usize], values: Vec<f64>) -> Result<()> {
        let mut waiting = lock(self.truth);
        let Some(kept) = waiting.shape(stage).map(<[usize]>::to_vec) else { return Ok(()) };
        let Some(values) = rows::as_kept(stage, shape, &kept, values) else { return Ok(()) };
        let (layout, whole) = (Layout::of(stage, &kept), Layout::of(stage, shape));
        let Some(truth) = waiting.numbers(stage)? else { return Ok(()) };
        let slack = arc::waiting(&mut waiting, stage, whole, layout)?;
        drop(waiting);
        self.waiting.push(Compared { stage: stage.into(), shape: kept, layout, truth, slack, values });
        match self.waiting.iter().map(|stage| stage.values.len()).sum::<usize>() < TOGETHER {
            true => Ok(()),
            false => self.compare_all(),
        }
    }

    /// Compares the stages that wait.
    fn compare_all(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let (precision, kept) = (self.precision, self.kept);
        let (first, noise) = (self.first, &self.noise);
        // The values of a way are already rounded to this type.
        let dtype = match precision {
            Precision::Bf16 => Dtype::BF16,
            Precision::F16 => Dtype::F16,
            _ => Dtype::F32,
        };
        let keeps = |stage: &str| {
            let own = |types: &Types| types.at(stage) == precision;
            let decides = || Stage::parse(stage).is_none_or(|at| at.row().part == "policy");
            kept.filter(|(_, types)| own(types) && !decides()).map(|(k, _)| way(k, stage))
        };
        let compare = |mut stage: Compared| {
            if let Some(slack) = &stage.slack {
                arc::nearest(stage.layout, slack, &mut stage.truth, &stage.values);
            }
            let name = name(precision, &stage.stage);
            let scale = first.get(&name).or_else(|| noise.get(&name)).map(|n| n.scale.as_slice());
            let errors = Errors::of(stage.layout, &stage.truth, &stage.values, scale);
            let kept = keeps(&stage.stage).map(|name| (name, stage.shape, widths::bytes(dtype, &stage.values)));
            (stage.stage, errors, kept)
        };
        let compared: Vec<_> = waiting.into_par_iter().map(compare).collect();
        for (stage, errors, kept) in compared {
            if let Some((name, shape, bytes)) = kept {
                lock(self.truth).put(&name, dtype, &shape, &bytes)?;
            }
            widen(&mut self.noise, name(self.precision, &stage), &errors);
        }
        Ok(())
    }
}

/// Takes the larger errors.
fn widen(noise: &mut Noise, name: String, errors: &Errors) {
    noise
        .entry(name)
        .or_insert_with(|| Errors { rows: vec![[0.0; 2]; errors.rows.len()], ..errors.clone() })
        .widen(errors);
}

impl<T: Real> Tap<T> for Comparison<'_, '_> {
    fn wants(&self, _: Stage) -> bool {
        self.failed.is_none()
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.failed = self.compare(&at.to_string(), value.shape(), flat(&value)).err();
    }
}

impl<T: Real> Sink<T> for Comparison<'_, '_> {
    fn take(&mut self, name: &str, values: &Values) -> Result<()> {
        match values {
            Values::F64(a) => self.compare(name, a.shape(), flat(&a.view())),
            Values::I64(_) | Values::U8(_) => Ok(()),
        }
    }
    /// The cache holds copies: there is nothing to compare.
    fn cache(&mut self, _: &Cache<T>) -> Result<()> {
        Ok(())
    }
}

/// Measures the noise of one type over its honest ways, and writes it beside the truth. vectors: the model of a way
/// that keeps norms and biases as the checkpoint has them. types: of the candidate of a replay. Spec: E10.1
///
/// # Errors
/// As the runs, and as the writer.
pub(super) fn measure(
    vectors: Option<&Model>,
    run: &Rerun<'_>,
    (precision, types): (Precision, Option<&Types>),
    truth: &mut BundleWriter,
) -> Result<u64> {
    let (size, truth) = (truth.bytes(), Shared::new(truth));
    let by = |(k, honest): (usize, Honest), first: &Noise| -> Result<Noise> {
        let kept = types.map(|types| (k, types)).filter(|_| drifts(precision));
        let (noise, waiting) = (Noise::new(), vec![]);
        let mut sink = Comparison { truth: &truth, precision, first, noise, kept, waiting, failed: None };
        let model = vectors.filter(|_| honest.wide_vectors).unwrap_or(run.model);
        let run = Rerun { model, ..*run };
        run.run::<f32, _>(precision.grid(), honest.way, honest.policy_grid, &mut sink)?;
        sink.failed.take().map_or(Ok(()), Err)?;
        sink.compare_all()?;
        Ok(sink.noise)
    };
    let mut all = ways(precision).into_iter().enumerate();
    let Some(first) = all.next() else { return Ok(0) };
    let mut noise = by(first, &Noise::new())?;
    for other in lanes::each(all.collect(), size, |way| by(way, &noise))? {
        other.into_iter().for_each(|(name, errors)| widen(&mut noise, name, &errors));
    }
    let mut truth = lock(&truth);
    let mut bytes = 0;
    for (name, errors) in noise {
        let flat = errors.flatten();
        truth.put_f32(&name, &[flat.len()], &flat)?;
        bytes += 4 * flat.len() as u64;
    }
    Ok(bytes)
}

/// Measures the noise of every type for a run whose truth waits in `truth`. Spec: E10.1
///
/// # Errors
/// As [`measure`].
pub(super) fn measure_all(
    model: &Model,
    prompt: &Prepared,
    how: (Policy, Retain),
    decided: (&Plan, &[u32]),
    truth: &mut BundleWriter,
) -> Result<u64> {
    let left: Vec<Vec<usize>> = match how.0.prunes() {
        true => decided.0.kept.iter().flat_map(|heads| heads.first().cloned()).collect(),
        false => vec![],
    };
    arc::put(model, prompt, (decided.1.len().saturating_sub(1), &left), truth)?;
    let decided = Decided::by_plan(decided.0, decided.1);
    let mut bytes = 0;
    for precision in TYPES {
        let rounded = &*model.rounded(precision.grid())?; // R10.4
        let run = Rerun { model: rounded, prompt, policy: &how.0, retain: how.1, decided: &decided, given: None };
        let vectors = model.rounded_matrices(precision.grid())?;
        bytes += measure(Some(&vectors).filter(|v| v.is_copy()).map(|v| &**v), &run, (precision, None), truth)?;
    }
    Ok(bytes)
}
