//! Drift: errors that are small everywhere but follow a direction. A mistake in an activation, in a norm's ε or in one
//! output of a layer stays below the noise of every number. But such a mistake moves a stage along a direction: along
//! it the mistake's errors add up, and errors of rounding do not. To find a direction, the model is run with a small
//! mistake on purpose; this works for any model. Spec: D10.8, E10.10

use super::fit::{Drift, Fit, Groups, Products, errors, together, without_means};
use super::measure::{Errors, Layout, flat};
use super::rulers::{self, DRIFT, constant, reads_alike};
use super::{Bundle, BundleWriter, alike, noise, said::Types};
use crate::error::{Error, Result};
use crate::generate;
use crate::num::{Grid, Real};
use crate::pass::{Aside, Branch, Pass, Precision, Tap, Way};
use crate::stage::{Site, Stage};
use ndarray::ArrayViewD;
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

/// The drift of the other honest ways counts this many times. Spec: T10.3
const HABIT: f64 = 2.0;
/// The drift of the other honest ways along the activations counts this many times. Spec: E10.10
const BEND: f64 = 1.5;
/// The activations together are judged from this many draws for each of them on. Spec: E10.10
const DRAWS: f64 = 8.0;
/// The drift of another way counts as far as it is larger than this many of its standard errors. Spec: E10.10
const BY_CHANCE: f64 = 3.0;
/// A drift is a finding if it is at least this share of the noise: for all columns together, for one column.
/// Spec: E10.10
const LEAST: [f64; 2] = [1.0 / 128.0, 1.0 / 8.0];
/// χ² with six degrees of freedom exceeds x² as seldom as a normal number exceeds 8; this is x / 8. Spec: E10.10
const SIX: f64 = 1.2;

/// For every stage, the fits of the activations: whether the fit is large enough, its words, the fit.
type Hats = BTreeMap<String, Vec<(bool, String, Fit)>>;
/// For every stage that drifts along the activations, the fits of the activations for each other honest way.
type Habits = BTreeMap<String, Vec<Vec<Fit>>>;

/// The part of a stage that is the same for every direction; computed once.
struct Known {
    /// The numbers that are rounded alike.
    groups: Groups,
    /// The honest way that is nearest to the candidate; none if the truth is nearest.
    nearest: Option<usize>,
}

/// A run with a mistake on purpose, compared with the candidate.
struct Aslant<'a> {
    truth: &'a mut BundleWriter,
    candidate: &'a Bundle,
    types: &'a Types,
    aside: Option<Aside>,
    known: &'a mut BTreeMap<String, Known>,
    hats: &'a mut Hats,
    found: &'a mut BTreeMap<String, Drift>,
    /// If present, only the other ways are fitted, and only in these stages.
    habits: Option<&'a mut Habits>,
    failed: Option<Error>,
}

impl Aslant<'_> {
    fn see(&mut self, stage: &str, shape: &[usize], values: Option<Vec<f64>>) -> Result<()> {
        let (layout, precision) = (Layout::of(stage, shape), self.types.at(stage));
        if !rulers::drifts(precision) || !layout.columns() || self.candidate.get(stage).is_none_or(|t| t.shape != shape)
        {
            return Ok(());
        }
        let Some(t) = self.truth.numbers(stage)? else { return Ok(()) };
        let direction: Vec<f64> = match values {
            None => t.clone(),
            Some(values) => values.iter().zip(&t).map(|(v, t)| (v - t) / Aside::SHARE).collect(),
        };
        let (mut moved, mut size) = (0.0, 0.0);
        direction.iter().zip(&t).for_each(|(d, t)| (moved, size) = (moved + d * d, size + t * t));
        if moved < 1e-6 * size || !moved.is_finite() {
            return Ok(()); // the mistake does not move this stage
        }
        let Ok(got) = self.candidate.flat(stage) else { return Ok(()) };
        let Some(noise) = self.truth.numbers(&noise::name(precision, stage))? else { return Ok(()) };
        let Some(noise) = Errors::unflatten(layout, &noise) else { return Ok(()) };
        if got.iter().any(|v| !v.is_finite()) {
            return Ok(());
        }
        if !self.known.contains_key(stage) {
            let nearest = self.nearest(stage, &t, &got)?;
            let rows = alike::groups(layout, &t, &noise.scale);
            let groups = Groups { rows, cells: alike::Cells::new(layout, &t, precision.grid()) };
            self.known.insert(stage.to_string(), Known { groups, nearest });
        }
        let Known { groups, nearest } = &self.known[stage];
        let nearest = *nearest;
        let from = nearest.map(|way| self.truth.numbers(&noise::way(way, stage))).transpose()?.flatten();
        let from = from.as_ref().unwrap_or(&t);
        // All rows of a tower's layer attend to the same values, and share the errors of these values.
        let shared = Stage::parse(stage).is_some_and(|at| at.site == Site::VisionOut);
        let apart = |values: Vec<f64>| if shared { without_means(layout, values) } else { values };
        let direction = apart(direction);
        let products = |got: &[f64]| Products::new(layout, groups, &apart(errors(got, from)), &direction);
        let sums = products(&got);
        if let Some(habits) = self.habits.as_deref_mut().and_then(|habits| habits.get_mut(stage)) {
            let others = others((self.truth, precision), stage, nearest, |other| products(other).all(&noise.scale))?;
            habits.resize_with(others.len(), Vec::new);
            habits.iter_mut().zip(others).for_each(|(fits, fit)| fits.extend(fit));
            return Ok(());
        }
        if let Some(Aside::Activation(at)) = self.aside {
            if let Some(fit) = sums.all(&noise.scale) {
                let is_large = large(&fit, constant(precision) / 16.0, LEAST[0], t.len() as f64);
                let words = format!("a change of the activation near {at}: is it another function?");
                self.hats.entry(stage.to_string()).or_default().push((is_large, words, fit));
            }
            return Ok(());
        }
        let strongest = |sums: &Products<'_>, others: &[Products<'_>]| {
            strongest(self.aside, precision, layout, &noise, sums, others)
        };
        let Some(mut drift) = strongest(&sums, &[]) else { return Ok(()) };
        if drift.ratio() > DRIFT {
            // If other honest ways drift along the same direction, the drift is no finding.
            let others = others((self.truth, precision), stage, nearest, products)?;
            let Some(beyond) = strongest(&sums, &others) else { return Ok(()) };
            let habit = others.iter().filter_map(|other| Some(strongest(other, &[])?.ratio())).fold(0.0, f64::max);
            drift = beyond;
            drift.ruler *= (HABIT * habit / DRIFT).max(1.0);
        }
        self.keep(stage, drift);
        Ok(())
    }

    /// The honest way that is nearest to the candidate: it rounds as the candidate does. None if the truth is nearest.
    fn nearest(&mut self, stage: &str, truth: &[f64], got: &[f64]) -> Result<Option<usize>> {
        let distance = |from: &[f64]| got.iter().zip(from).fold(0.0, |sum, (g, f)| sum + (g - f) * (g - f));
        let mut best = (None, distance(truth));
        for way in 0.. {
            let Some(other) = self.truth.numbers(&noise::way(way, stage))? else { break };
            let distance = distance(&other);
            if distance < best.1 {
                best = (Some(way), distance);
            }
        }
        Ok(best.0)
    }

    /// Keeps the largest drift of a stage. Spec: E10.10
    fn keep(&mut self, stage: &str, drift: Drift) {
        if self.found.get(stage).is_none_or(|known| drift.ratio() > known.ratio()) {
            self.found.insert(stage.to_string(), drift);
        }
    }
}

/// Whether a drift is larger than a type's usual drift: in itself, and compared with the noise of this many numbers.
/// Spec: E10.10
fn large(fit: &Fit, least: f64, share: f64, numbers: f64) -> bool {
    fit.a.abs() >= least && fit.a.abs() * (fit.size / numbers).sqrt() >= share
}

/// A measure of every honest way of a stage but one.
fn others<R>(
    (truth, precision): (&mut BundleWriter, Precision),
    stage: &str,
    but: Option<usize>,
    measure: impl Fn(&[f64]) -> R,
) -> Result<Vec<R>> {
    let mut all = Vec::new();
    for way in (0..).filter(|&way| Some(way) != but && reads_alike(precision, way, but)) {
        let Some(other) = truth.numbers(&noise::way(way, stage))? else { break };
        all.push(measure(&other));
    }
    Ok(all)
}

/// The largest drift along the truth, ε, attention or MLP: in all columns together, or in one column. What the other
/// ways drift by in the same columns is allowed for. Spec: E10.10
fn strongest(
    aside: Option<Aside>,
    precision: Precision,
    layout: Layout,
    noise: &Errors,
    sums: &Products<'_>,
    others: &[Products<'_>],
) -> Option<Drift> {
    let u = constant(precision);
    let (name, least) = match aside {
        None => ("the truth", u),
        Some(Aside::Branch(Branch::Attention)) => ("the output of attention", u),
        Some(Aside::Branch(Branch::Mlp)) => ("the output of the MLP", u),
        Some(_) => ("1 / (size of a row): does a norm have another ε?", u / 4.0),
    };
    let rows = layout.rows as f64;
    let drift = |along: String, fit: Fit, other: &dyn Fn(&Products<'_>) -> Option<Fit>| {
        let beyond = |fit: Fit| (fit.a.abs() - BY_CHANCE * fit.ruler()).max(0.0);
        let habit = others.iter().filter_map(other).map(beyond).fold(0.0, f64::max);
        Drift { along, error: fit.a.abs(), ruler: fit.ruler() + habit / DRIFT }
    };
    let all = sums.all(&noise.scale).filter(|fit| large(fit, least, LEAST[0], rows * sums.width as f64));
    let columns = if aside == Some(Aside::Epsilon) { 0 } else { sums.width };
    let one = (0..columns).filter_map(|c| {
        let fit = sums.column(c, noise.scale[c]).filter(|fit| large(fit, least, LEAST[1], rows))?;
        let words = format!("{name}, in column {}: {:.4} times", c % layout.width, 1.0 + fit.a);
        Some(drift(words, fit, &|other| other.column(c, noise.scale[c])))
    });
    let all = all.map(|fit| drift(name.to_string(), fit, &|other| other.all(&noise.scale)));
    all.into_iter().chain(one).max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
}

impl<T: Real> Tap<T> for Aslant<'_> {
    /// Whether the mistake can move the stage if the stage's inputs are given: other stages need not be computed.
    fn wants(&self, at: Stage) -> bool {
        if let Some(habits) = &self.habits {
            return self.failed.is_none() && habits.contains_key(&at.to_string());
        }
        let moved = match self.aside {
            Some(Aside::Epsilon) => at.site != Site::Mix,
            _ => matches!(at.site, Site::VisionOut | Site::Projected | Site::Out),
        };
        moved && self.failed.is_none()
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        self.failed = Aslant::see(self, &at.to_string(), value.shape(), Some(flat(&value))).err();
    }
}

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
    let (mut found, mut known, mut hats) = (BTreeMap::new(), BTreeMap::new(), Hats::new());
    let Some(given) = run.given else { return Ok(found) };
    let mut sink = |aside, hats: &mut Hats, habits: Option<&mut Habits>, truth: &mut BundleWriter| -> Result<()> {
        let (known, found) = (&mut known, &mut found);
        let mut sink = Aslant { truth, candidate, types, aside, known, hats, found, habits, failed: None };
        if aside.is_none() {
            // The direction along the truth needs no run.
            let passes = |at: &Stage| matches!(at.row().part, "vision" | "projector" | "decoder");
            for stage in Stage::sorted(candidate.names()).into_iter().filter(passes).map(|at| at.to_string()) {
                let shape = candidate.stage(&stage)?.shape;
                if sink.truth.shape(&stage) == Some(shape) {
                    sink.see(&stage, shape, None)?;
                }
            }
            return Ok(());
        }
        let way = Way { aside, ..Way::default() };
        let mut pass = Pass::<f32>::watched(Grid::Native, &mut sink).by(way).replaying(given);
        generate::prefill(run.model, &mut pass, run.prompt, std::slice::from_ref(run.policy))?;
        sink.failed.map_or(Ok(()), Err)
    };
    for aside in ASIDES.into_iter().map(Some).chain([None]) {
        sink(aside, &mut hats, None, truth)?;
    }
    // A drift along the activations has to be larger than what other honest ways show along them.
    let mut bent: BTreeMap<String, Drift> =
        hats.iter().filter_map(|(at, fits)| Some((at.clone(), bend(fits)?))).collect();
    let suspects = bent.iter().filter(|(_, drift)| drift.ratio() > DRIFT);
    let mut habits: Habits = suspects.map(|(stage, _)| (stage.clone(), Vec::new())).collect();
    if !habits.is_empty() {
        for aside in ASIDES.into_iter().filter(|aside| matches!(aside, Aside::Activation(_))) {
            sink(Some(aside), &mut hats, Some(&mut habits), truth)?;
        }
    }
    for (stage, ways) in habits {
        let habit = ways.iter().map(|fits| together(fits) / SIX).fold(0.0, f64::max);
        bent.entry(stage).and_modify(|drift| drift.ruler *= (BEND * habit / DRIFT).max(1.0));
    }
    for (stage, drift) in bent {
        if found.get(&stage).is_none_or(|known: &Drift| drift.ratio() > known.ratio()) {
            found.insert(stage, drift);
        }
    }
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
