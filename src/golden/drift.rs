//! Drift: errors that are small everywhere and yet follow something. A mistake in an activation, in a norm's ε or in one
//! output of a layer stays below the noise of every number; along the direction in which such a mistake moves a stage its
//! errors add up, where those of roundings do not. Directions are runs that are off on purpose, whatever the model.
//! Spec: D10.8, E10.10

use super::measure::{Errors, Layout};
use super::numbers::roundoff;
use super::{Bundle, BundleWriter, alike, noise};
use crate::error::{Error, Result};
use crate::generate;
use crate::kernel::{Aside, Way};
use crate::num::{Grid, Real};
use crate::pass::{Pass, Precision, Stage, Tap};
use ndarray::ArrayViewD;
use std::collections::BTreeMap;

/// What is tried. Spec: D10.8
const ASIDES: [Aside; 9] = [
    Aside::Activation(-3),
    Aside::Activation(-2),
    Aside::Activation(-1),
    Aside::Activation(0),
    Aside::Activation(1),
    Aside::Activation(2),
    Aside::Epsilon,
    Aside::Mix,
    Aside::Mlp,
];

/// Errors along a direction: how far, and by how much that may be off by chance.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drift {
    /// The direction, in words.
    pub along: String,
    /// The coefficient of the direction in the errors.
    pub error: f64,
    /// Its standard error.
    pub ruler: f64,
}

/// A drift is a finding where it is at least this share of the noise: of all columns, of one. Spec: E10.10
const LEAST: [f64; 2] = [1.0 / 128.0, 1.0 / 8.0];
/// So many groups of rows have to speak. Spec: E10.10
const GROUPS: f64 = 16.0;
/// √ of what χ² of six degrees of freedom exceeds as seldom as a normal number exceeds 8, over 8. Spec: E10.10
const SIX: f64 = 1.2;

/// Products of errors and a direction, and of the direction with itself, a number a group of rows and column.
struct Products {
    width: usize,
    along: Vec<f64>,
    size: Vec<f64>,
}

/// A direction fitted to errors, a number a group of rows.
#[derive(Debug, Clone)]
struct Fit {
    a: f64,
    size: f64,
    /// What each group adds, and what is left of that after the fit.
    along: Vec<f64>,
    rest: Vec<f64>,
}

impl Fit {
    /// None where too few groups speak.
    fn new(along: Vec<f64>, size: Vec<f64>) -> Option<Fit> {
        let (total, squares) = (size.iter().sum::<f64>(), size.iter().map(|n| n * n).sum::<f64>());
        if total <= 0.0 || total * total < GROUPS * squares {
            return None;
        }
        let a = along.iter().sum::<f64>() / total;
        let rest = along.iter().zip(&size).map(|(s, n)| s - a * n).collect();
        Some(Fit { a, size: total, along, rest })
    }

    /// The standard error of a.
    fn ruler(&self) -> f64 {
        self.rest.iter().map(|r| r * r).sum::<f64>().sqrt() / self.size
    }
}

impl Products {
    fn all(&self, scale: &[f64]) -> Option<Fit> {
        let group = |row: &[f64]| row.iter().zip(scale).map(|(v, s)| v / (s * s)).sum::<f64>();
        let of = |sums: &[f64]| sums.chunks(self.width).map(group).collect();
        Fit::new(of(&self.along), of(&self.size))
    }

    fn column(&self, c: usize, scale: f64) -> Option<Fit> {
        let of = |sums: &[f64]| sums.iter().skip(c).step_by(self.width).map(|v| v / (scale * scale)).collect();
        Fit::new(of(&self.along), of(&self.size))
    }
}

/// √ of Hotelling's T² of several fits: how far they are from nothing together, in standard errors.
fn together(fits: &[Fit]) -> f64 {
    let k = fits.len();
    let total: Vec<f64> = fits.iter().map(|f| f.along.iter().sum()).collect();
    let product = |a: &Fit, b: &Fit| a.rest.iter().zip(&b.rest).map(|(x, y)| x * y).sum::<f64>();
    let mut m: Vec<Vec<f64>> = fits.iter().map(|a| fits.iter().map(|b| product(a, b)).collect()).collect();
    // Cholesky; a direction that the others hold already adds nothing.
    let mut y = vec![0.0; k];
    for i in 0..k {
        let own = m[i][i];
        for j in 0..=i {
            let sum = m[i][j] - (0..j).map(|p| m[i][p] * m[j][p]).sum::<f64>();
            m[i][j] = match i == j {
                true => {
                    if sum > 1e-6 * own {
                        sum.sqrt()
                    } else {
                        f64::INFINITY
                    }
                }
                false => sum / m[j][j],
            };
        }
        y[i] = (total[i] - (0..i).map(|p| m[i][p] * y[p]).sum::<f64>()) / m[i][i];
    }
    y.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Of every stage, the fits of activations: whether large enough, what it is, the fit.
type Hats = BTreeMap<String, Vec<(bool, String, Fit)>>;

/// What no direction changes of a stage: found with the first, kept for the others.
struct Known {
    /// The group of each row.
    groups: Vec<usize>,
    /// The honest way that is nearest to the candidate; none where that is the truth.
    nearest: Option<usize>,
}

/// A run that is off on purpose, compared with the candidate.
struct Aslant<'a> {
    truth: &'a mut BundleWriter,
    candidate: &'a Bundle,
    precision: Precision,
    aside: Option<Aside>,
    known: &'a mut BTreeMap<String, Known>,
    hats: &'a mut Hats,
    found: &'a mut BTreeMap<String, Drift>,
    failed: Option<Error>,
}

impl Aslant<'_> {
    fn see(&mut self, stage: &str, shape: &[usize], values: Vec<f64>) -> Result<()> {
        let layout = Layout::of(stage, shape);
        if !layout.columns() || self.candidate.get(stage).is_none_or(|t| t.shape != shape) {
            return Ok(());
        }
        let (Some(t), Ok(got)) = (self.truth.numbers(stage)?, self.candidate.f64(stage)) else { return Ok(()) };
        let Some(noise) = self.truth.numbers(&noise::name(self.precision, stage))? else { return Ok(()) };
        let Some(noise) = Errors::unflatten(layout, &noise) else { return Ok(()) };
        let got: Vec<f64> = got.into_iter().collect();
        let direction: Vec<f64> = match self.aside {
            None => t.clone(),
            Some(_) => values.iter().zip(&t).map(|(v, t)| (v - t) / Aside::SHARE).collect(),
        };
        let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
        let finite = got.iter().chain(&direction).all(|v| v.is_finite());
        if !finite || norm(&direction) < 1e-6 * norm(&t) {
            return Ok(());
        }
        if !self.known.contains_key(stage) {
            let nearest = self.nearest(stage, &t, &got)?;
            let groups = alike::groups(layout, &t, &noise.scale);
            self.known.insert(stage.to_string(), Known { groups, nearest });
        }
        let Known { groups, nearest } = &self.known[stage];
        let other = nearest.map(|way| self.truth.numbers(&noise::way(way, stage))).transpose()?.flatten();
        let error = errors(&got, other.as_ref().unwrap_or(&t));
        let (width, count) = (layout.lead * layout.width, groups.iter().max().map_or(0, |g| g + 1));
        let mut sums = Products { width, along: vec![0.0; count * width], size: vec![0.0; count * width] };
        for (i, (e, d)) in error.iter().zip(&direction).enumerate() {
            let (row, c) = (i / layout.width, i % layout.width);
            let at = groups[row % layout.rows] * width + row / layout.rows * layout.width + c;
            sums.along[at] += e * d;
            sums.size[at] += d * d;
        }
        self.judge(stage, layout, &noise, &sums);
        Ok(())
    }

    /// The honest way that is nearest to the candidate, since it rounds as the candidate does; none where the truth is.
    fn nearest(&mut self, stage: &str, truth: &[f64], got: &[f64]) -> Result<Option<usize>> {
        let distance = |from: &[f64]| errors(got, from).iter().map(|e| e * e).sum::<f64>();
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

    /// Keeps what drifts most, all columns together or one. Spec: E10.10
    fn judge(&mut self, stage: &str, layout: Layout, noise: &Errors, sums: &Products) {
        let u = roundoff(self.precision);
        let (name, least) = match self.aside {
            None => ("the truth".to_string(), u),
            Some(Aside::Activation(at)) => {
                (format!("the activation of numbers near {at}: another function?"), u / 16.0)
            }
            Some(Aside::Epsilon) => ("one over the size of a row: another ε in a norm?".into(), u / 4.0),
            Some(Aside::Mix) => ("what attention adds".into(), u),
            Some(Aside::Mlp) => ("what the MLP adds".into(), u),
        };
        let rows = layout.rows as f64;
        let large = |fit: &Fit, share: f64, numbers: f64| {
            fit.a.abs() >= least && fit.a.abs() * (fit.size / numbers).sqrt() >= share
        };
        let mut keep = |along: String, error: f64, ruler: f64| {
            let drift = Drift { along, error, ruler };
            let ratio = |d: &Drift| d.error / d.ruler;
            if self.found.get(stage).is_none_or(|known| ratio(&drift) > ratio(known)) {
                self.found.insert(stage.to_string(), drift);
            }
        };
        if let Some(fit) = sums.all(&noise.scale) {
            let is_large = large(&fit, LEAST[0], rows * sums.width as f64);
            if matches!(self.aside, Some(Aside::Activation(_))) {
                let fits = self.hats.entry(stage.to_string()).or_default();
                fits.push((is_large, name.clone(), fit));
                let largest = fits.iter().filter(|f| f.0).max_by(|a, b| {
                    let ratio = |f: &Fit| f.a.abs() / f.ruler();
                    ratio(&a.2).total_cmp(&ratio(&b.2))
                });
                if let Some((_, name, fit)) = largest {
                    let all: Vec<Fit> = fits.iter().map(|f| f.2.clone()).collect();
                    keep(name.clone(), fit.a.abs(), fit.a.abs() * SIX / together(&all));
                }
            } else if is_large {
                keep(name.clone(), fit.a.abs(), fit.ruler());
            }
        }
        if matches!(self.aside, None | Some(Aside::Mix | Aside::Mlp)) {
            for column in 0..sums.width {
                let fit = sums.column(column, noise.scale[column]);
                if let Some(fit) = fit.filter(|fit| large(fit, LEAST[1], rows)) {
                    let along = format!("{name}, in column {}: {:.4} times", column % layout.width, 1.0 + fit.a);
                    keep(along, fit.a.abs(), fit.ruler());
                }
            }
        }
    }
}

fn errors(got: &[f64], from: &[f64]) -> Vec<f64> {
    got.iter().zip(from).map(|(g, f)| g - f).collect()
}

impl<T: Real> Tap<T> for Aslant<'_> {
    fn wants(&self, _: Stage) -> bool {
        self.failed.is_none()
    }
    fn see(&mut self, at: Stage, value: ArrayViewD<'_, T>) {
        let values = value.iter().map(|v| v.to_f64()).collect();
        self.failed = Aslant::see(self, &at.to_string(), value.shape(), values).err();
    }
}

/// What drifts most in each stage of a candidate in a replay. Spec: E10.10
///
/// # Errors
/// As the pass, and as the waiting file.
pub(super) fn drifts(
    run: &super::rerun::Rerun<'_>,
    candidate: &Bundle,
    precision: Precision,
    truth: &mut BundleWriter,
) -> Result<BTreeMap<String, Drift>> {
    let (mut found, mut known, mut hats) = (BTreeMap::new(), BTreeMap::new(), Hats::new());
    let Some(given) = run.given else { return Ok(found) };
    for aside in ASIDES.into_iter().map(Some).chain([None]) {
        let (known, hats, found) = (&mut known, &mut hats, &mut found);
        let mut sink = Aslant { truth, candidate, precision, aside, known, hats, found, failed: None };
        let way = Way { aside, ..Way::default() };
        let mut pass = Pass::<f32>::watched(Grid::Native, &mut sink).by(way).replaying(given);
        generate::prefill(run.model, &mut pass, run.prompt, &[run.policy])?;
        sink.failed.map_or(Ok(()), Err)?;
    }
    Ok(found)
}
