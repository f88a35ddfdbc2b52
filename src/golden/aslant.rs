//! A run with a mistake on purpose, compared with the candidate: how far the candidate's errors follow what the mistake
//! moves. Stages wait until they are some, so that all threads fit them. Spec: D10.8, E10.10

use super::along::{LEAST, large, strongest};
use super::fit::{Drift, Fit, Groups, Products, errors, without_means};
use super::holding::{Held, Known, Numbers};
use super::lanes::{Shared, TOGETHER, lock};
use super::measure::{Errors, Layout, flat};
use super::rulers::{self, DRIFT, constant, reads_alike};
use super::{Bundle, alike, noise, said::Types};
use crate::error::{Error, Result};
use crate::num::{Real, sum_of};
use crate::pass::{Aside, Precision, Tap};
use crate::stage::{Site, Stage};
use ndarray::ArrayViewD;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The drift of the other honest ways counts this many times. Spec: T10.3
const HABIT: f64 = 2.0;

/// For every stage, the fits of the activations: whether the fit is large enough, its words, the fit.
pub(super) type Hats = BTreeMap<String, Vec<(bool, String, Fit)>>;
/// For every stage, its largest drift.
pub(super) type Found = BTreeMap<String, Drift>;
/// For every stage that drifts along the activations, the fits of the activations for each other honest way.
pub(super) type Habits = BTreeMap<String, Vec<Vec<Fit>>>;

/// A run with a mistake on purpose, compared with the candidate.
pub(super) struct Aslant<'a, 'w> {
    pub truth: &'a Shared<'w>,
    pub candidate: &'a Bundle,
    pub types: &'a Types,
    /// The mistake; none for the direction along the truth.
    pub aside: Option<Aside>,
    pub held: &'a Held,
    pub hats: Hats,
    pub found: Found,
    /// If present, only the other ways are fitted, and only in these stages.
    pub habits: Option<&'a mut Habits>,
    pub waiting: Vec<Waiting>,
    pub failed: Option<Error>,
}

/// A stage that waits.
pub(super) struct Waiting {
    stage: String,
    layout: Layout,
    precision: Precision,
    /// The run's values; none for the direction along the truth.
    values: Option<Vec<f64>>,
    of: Arc<Numbers>,
}

/// A stage's direction, and the candidate's errors along it.
struct Fitted {
    direction: Vec<f64>,
    all: Option<Fit>,
    drift: Option<Drift>,
    /// What the stage shares with other directions.
    known: Arc<Known>,
}

impl Waiting {
    fn errors(&self) -> Vec<f64> {
        self.apart(errors(&self.of.got, self.of.from()))
    }

    /// All rows of a tower's layer attend to the same values, and share the errors of these values.
    fn apart(&self, values: Vec<f64>) -> Vec<f64> {
        let shared = Stage::parse(&self.stage).is_some_and(|at| at.site == Site::VisionOut);
        if shared { without_means(self.layout, values) } else { values }
    }

    /// None if the mistake does not move this stage.
    fn direction(&self) -> Option<Vec<f64>> {
        let t = &self.of.truth;
        let direction: Vec<f64> = match &self.values {
            None => t.clone(),
            Some(values) => values.iter().zip(t).map(|(v, t)| (v - t) / Aside::SHARE).collect(),
        };
        let (moved, size) = (sum_of(&direction, |d| d * d), sum_of(t, |t| t * t));
        (moved >= 1e-6 * size && moved.is_finite()).then(|| self.apart(direction))
    }

    fn known(&self) -> Known {
        let truth = &self.of.truth;
        let rows = alike::groups(self.layout, truth, &self.of.noise.scale);
        let groups = Groups { rows, cells: alike::Cells::new(self.layout, truth, self.precision.grid()) };
        Known { groups, nearest: self.of.nearest.as_ref().map(|(way, _)| *way) }
    }

    fn strongest(&self, aside: Option<Aside>, sums: &Products<'_>, others: &[Products<'_>]) -> Option<Drift> {
        strongest(aside, self.precision, self.layout, &self.of.noise, sums, others)
    }

    /// Fits the direction to the candidate's errors. known: what an earlier direction found.
    fn fitted(&self, aside: Option<Aside>, is_habit: bool, known: Option<Arc<Known>>) -> Option<Fitted> {
        let direction = self.direction()?;
        let known = known.unwrap_or_else(|| Arc::new(self.known()));
        let groups = &known.groups;
        let (mut all, mut drift) = (None, None);
        if !is_habit {
            let sums = Products::new(self.layout, groups, &self.errors(), &direction);
            match aside {
                Some(Aside::Activation(_)) => all = sums.all(&self.of.noise.scale),
                _ => drift = self.strongest(aside, &sums, &[]),
            }
        }
        Some(Fitted { direction, all, drift, known })
    }
}

impl Aslant<'_, '_> {
    /// Lets a stage wait. values: the run's; none for the direction along the truth.
    pub fn see(&mut self, stage: &str, shape: &[usize], values: Option<Vec<f64>>) -> Result<()> {
        let (layout, precision) = (Layout::of(stage, shape), self.types.at(stage));
        if !rulers::drifts(precision) || !layout.columns() || self.candidate.get(stage).is_none_or(|t| t.shape != shape)
        {
            return Ok(());
        }
        let of = match self.held.numbers(stage) {
            Some(held) => held,
            None => match self.numbers(stage, layout, precision)? {
                Some(read) => Arc::new(read),
                None => return Ok(()),
            },
        };
        self.waiting.push(Waiting { stage: stage.into(), layout, precision, values, of });
        match self.waiting.iter().map(|stage| stage.of.got.len()).sum::<usize>() < TOGETHER {
            true => Ok(()),
            false => self.fit_all(),
        }
    }

    /// Reads the numbers of a stage; none if it has no truth or no noise, or if the candidate's are not finite.
    fn numbers(&self, stage: &str, layout: Layout, precision: Precision) -> Result<Option<Numbers>> {
        let waiting = |name: &str| lock(self.truth).numbers(name);
        let Some(truth) = waiting(stage)? else { return Ok(None) };
        let Ok(got) = self.candidate.flat(stage) else { return Ok(None) };
        let Some(noise) = waiting(&noise::name(precision, stage))? else { return Ok(None) };
        let Some(noise) = Errors::unflatten(layout, &noise) else { return Ok(None) };
        if got.iter().any(|v| !v.is_finite()) {
            return Ok(None);
        }
        let nearest = match self.held.known(stage) {
            Some(known) => known.nearest,
            None => self.nearest(stage, &truth, &got)?,
        };
        let numbers = nearest.map(|way| waiting(&noise::way(way, stage))).transpose()?.flatten();
        Ok(Some(Numbers { truth, got, noise, nearest: nearest.zip(numbers) }))
    }

    /// Fits the stages that wait.
    pub fn fit_all(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let (aside, is_habit) = (self.aside, self.habits.is_some());
        let known: Vec<_> = waiting.iter().map(|stage| self.held.known(&stage.stage)).collect();
        let fitted: Vec<Option<Fitted>> =
            waiting.par_iter().zip(known).map(|(stage, known)| stage.fitted(aside, is_habit, known)).collect();
        for (stage, fitted) in waiting.into_iter().zip(fitted) {
            let Some(fitted) = fitted else { continue };
            self.take(&stage, fitted)?;
        }
        Ok(())
    }

    /// Takes what a stage's fit shows.
    fn take(&mut self, stage: &Waiting, Fitted { direction, all, drift, known }: Fitted) -> Result<()> {
        let (name, noise, count) = (&stage.stage, &stage.of.noise, stage.of.got.len());
        self.held.keep(name, &known, &stage.of);
        let (groups, nearest) = (&known.groups, known.nearest);
        let products =
            |got: &[f64]| Products::new(stage.layout, groups, &stage.apart(errors(got, stage.of.from())), &direction);
        let others = (self.truth, stage.precision);
        if let Some(habits) = self.habits.as_deref_mut().and_then(|habits| habits.get_mut(name)) {
            let others = others_of(others, name, nearest, |other| products(other).all(&noise.scale))?;
            habits.resize_with(others.len(), Vec::new);
            habits.iter_mut().zip(others).for_each(|(fits, fit)| fits.extend(fit));
            return Ok(());
        }
        if let Some(Aside::Activation(at)) = self.aside {
            if let Some(fit) = all {
                let least = constant(stage.precision) / 16.0;
                let is_large = large((fit.a, fit.size), least, LEAST[0], count as f64);
                let words = format!("a change of the activation near {at}: is it another function?");
                self.hats.entry(name.clone()).or_default().push((is_large, words, fit));
            }
            return Ok(());
        }
        let Some(mut drift) = drift else { return Ok(()) };
        if drift.ratio() > DRIFT {
            // If other honest ways drift along the same direction, the drift is no finding.
            let others = others_of(others, name, nearest, products)?;
            let Some(beyond) = stage.strongest(self.aside, &products(&stage.of.got), &others) else { return Ok(()) };
            let own = others.iter().filter_map(|other| Some(stage.strongest(self.aside, other, &[])?.ratio()));
            drift = beyond;
            drift.ruler *= (HABIT * own.fold(0.0, f64::max) / DRIFT).max(1.0);
        }
        larger(&mut self.found, name.clone(), drift);
        Ok(())
    }

    /// The honest way that is nearest to the candidate: it rounds as the candidate does. None if the truth is nearest.
    fn nearest(&self, stage: &str, truth: &[f64], got: &[f64]) -> Result<Option<usize>> {
        let distance = |from: &[f64]| got.iter().zip(from).fold(0.0, |sum, (g, f)| sum + (g - f) * (g - f));
        let mut best = (None, distance(truth));
        for way in 0.. {
            let Some(other) = lock(self.truth).numbers(&noise::way(way, stage))? else { break };
            let distance = distance(&other);
            if distance < best.1 {
                best = (Some(way), distance);
            }
        }
        Ok(best.0)
    }
}

/// Keeps the largest drift of a stage. Spec: E10.10
pub(super) fn larger(found: &mut Found, stage: String, drift: Drift) {
    if found.get(&stage).is_none_or(|known| drift.ratio() > known.ratio()) {
        found.insert(stage, drift);
    }
}

/// A measure of every honest way of a stage but one.
fn others_of<R>(
    (truth, precision): (&Shared<'_>, Precision),
    stage: &str,
    but: Option<usize>,
    measure: impl Fn(&[f64]) -> R,
) -> Result<Vec<R>> {
    let mut all = Vec::new();
    for way in (0..).filter(|&way| Some(way) != but && reads_alike(precision, way, but)) {
        let Some(other) = lock(truth).numbers(&noise::way(way, stage))? else { break };
        all.push(measure(&other));
    }
    Ok(all)
}

impl<T: Real> Tap<T> for Aslant<'_, '_> {
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
