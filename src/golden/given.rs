//! Values of stages and decisions that a run takes from a bundle instead of computing them. A bundle is not trusted: a
//! value that does not fit counts as missing.

use super::Bundle;
use crate::num::{Grid, Random, Real};
use crate::pass::Source;
use crate::policy::{Heads, Plan, Policy};
use crate::stage::{Site, Stage};
use ndarray::{Array2, ArrayD};

/// A bundle's values, in the requested shapes. Spec: D10.7
pub(super) struct Values<'a>(pub &'a Bundle);

impl<T: Real> Source<T> for Values<'_> {
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>> {
        let name = at.to_string();
        self.0.get(&name).filter(|t| t.shape == shape)?;
        let values = self.0.flat(&name).ok()?.into_iter().map(T::of).collect();
        ArrayD::from_shape_vec(shape, values).ok()
    }
}

/// The same values, for a way that does not store its residual stream in the type: what the candidate recorded is what
/// the way rounded, so the way goes on with a number that rounds to the recorded number. Spec: R10.12
pub(super) struct Unrounded<'a>(pub &'a Values<'a>, pub Grid);

impl<T: Real> Source<T> for Unrounded<'_> {
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>> {
        let mut values: ArrayD<T> = self.0.given(at, shape)?;
        if matches!(at.site, Site::VisionOut | Site::Embed | Site::Out | Site::StepOut) {
            let width = shape.last().copied().unwrap_or(1).max(1);
            for (i, v) in values.iter_mut().enumerate() {
                *v = T::of(unrounded(v.to_f64(), i % width, self.1));
            }
        }
        Some(values)
    }
}

/// A number that rounds to v, the same for equal numbers of one column: rows that are alike were rounded alike.
fn unrounded(v: f64, column: usize, grid: Grid) -> f64 {
    let spacing = match grid {
        Grid::Native => return v,
        Grid::Bf16 => (-7f64).exp2(),
        Grid::F16 => (-10f64).exp2(),
    };
    let power = f64::from_bits(v.to_bits() & 0x7ff0_0000_0000_0000); // 2^e ≤ |v|
    v + power * spacing * (Random::new(v.to_bits() ^ (column as u64) << 40).unit() - 0.5)
}

/// Decisions that later stages use. Spec: D10.7
#[derive(Debug, Clone, Default)]
pub(super) struct Decided {
    /// [L] of \[S\]\[w\].
    pub window: Vec<Option<Vec<Vec<usize>>>>,
    /// [L] of [S, N_c].
    pub importance: Vec<Option<Array2<f64>>>,
    /// [L].
    pub strength: Option<Vec<f64>>,
    /// [L].
    pub skewness: Option<Vec<f64>>,
    /// [L].
    pub budget: Option<Vec<usize>>,
    /// [L] of [S][b].
    pub kept: Vec<Option<Vec<Vec<usize>>>>,
    /// The tokens that were fed, and the last token, which was not fed.
    pub tokens: Vec<u32>,
}

impl Decided {
    /// The discrete decisions of a plan, without its other values.
    pub fn by_plan(plan: &Plan, tokens: &[u32]) -> Decided {
        let Some(d) = &plan.decisions else { return Decided { tokens: tokens.to_vec(), ..Decided::default() } };
        let votes = d.layers.iter().all(|l| l.window.iter().all(|w| !w.is_empty()));
        Decided {
            window: d.layers.iter().map(|l| votes.then(|| l.window.clone())).collect(),
            budget: Some(d.budget.clone()),
            kept: d.kept.iter().cloned().map(Some).collect(),
            tokens: tokens.to_vec(),
            ..Decided::default()
        }
    }

    /// The decisions in a bundle, for `sets` kept sets, `n` prompt rows and `candidates` entries in each layer.
    pub fn in_bundle(
        bundle: &Bundle,
        policy: &Policy,
        layers: usize,
        kv_heads: usize,
        sizes: (usize, usize),
    ) -> Decided {
        let (n, candidates) = sizes;
        let sets = if policy.heads == Heads::Kv { kv_heads } else { 1 };
        let a_layer = |name: &str| {
            let fits = bundle.get(name).is_some_and(|t| t.shape == [layers]);
            vector(bundle, name).filter(|_| fits)
        };
        let budget = bundle
            .get(&Stage::once(Site::Budget).name())
            .and_then(|_| bundle.i64(&Stage::once(Site::Budget).name()).ok());
        let budget =
            budget.filter(|b| b.shape() == [layers]).map(|b| b.iter().map(|&b| b as usize).collect::<Vec<_>>());
        Decided {
            window: (0..layers).map(|l| window(bundle, &Stage::layer(Site::Window, l).name(), sets, n)).collect(),
            importance: (0..layers)
                .map(|l| {
                    let fits = |i: &Array2<f64>| i.ncols() == candidates && i.iter().all(|&v| v >= 0.0);
                    importance(bundle, l, sets).filter(fits)
                })
                .collect(),
            strength: a_layer(&Stage::once(Site::Strength).name()),
            skewness: a_layer(&Stage::once(Site::Skewness).name()),
            budget: budget.filter(|b| b.iter().all(|&b| b <= candidates)),
            kept: (0..layers).map(|l| kept(bundle, &Stage::layer(Site::Kept, l).name(), sets, candidates)).collect(),
            tokens: bundle
                .i64(&Stage::once(Site::OutputIds).name())
                .map(|t| t.iter().map(|&t| t as u32).collect())
                .unwrap_or_default(),
        }
    }
}

/// A list of finite numbers.
pub(super) fn vector(bundle: &Bundle, name: &str) -> Option<Vec<f64>> {
    let values = bundle.get(name).and_then(|_| bundle.f64(name).ok())?;
    values.iter().all(|v| v.is_finite()).then(|| values.iter().copied().collect())
}

/// Finite importances of a layer: [sets, N_c].
pub(super) fn importance(bundle: &Bundle, l: usize, sets: usize) -> Option<Array2<f64>> {
    let name = Stage::layer(Site::Importance, l).name();
    let values = bundle.get(&name).and_then(|_| bundle.f64(&name).ok())?;
    let n = values.len() / sets.max(1);
    let values = values.into_shape_with_order((sets, n)).ok()?;
    values.iter().all(|v| v.is_finite()).then_some(values)
}

/// Windows as sets of rows: \[S\]\[w\]; none if the values are no sets of prompt rows.
pub(super) fn window(bundle: &Bundle, name: &str, sets: usize, n: usize) -> Option<Vec<Vec<usize>>> {
    let values = bundle.get(name).and_then(|_| bundle.i64(name).ok())?;
    if values.ndim() == 2 && values.shape() == [sets, n] {
        let rows = |mask: ndarray::ArrayView1<'_, i64>| (0..n).filter(|&i| mask[i] != 0).collect();
        let values = values.into_dimensionality::<ndarray::Ix2>().ok()?;
        return Some(values.outer_iter().map(rows).collect());
    }
    if values.ndim() != 1 || sets != 1 { None } else { Some(vec![ascending(values.iter(), n)?]) }
}

/// Kept sets: [S][b]; none if the values are not ascending candidates.
pub(super) fn kept(bundle: &Bundle, name: &str, sets: usize, candidates: usize) -> Option<Vec<Vec<usize>>> {
    let values = bundle.get(name).and_then(|_| bundle.i64(name).ok())?;
    let b = values.len() / sets.max(1);
    let values = values.into_shape_with_order((sets, b)).ok()?;
    values.outer_iter().map(|row| ascending(row.iter(), candidates)).collect()
}

fn ascending<'a>(values: impl Iterator<Item = &'a i64>, limit: usize) -> Option<Vec<usize>> {
    let values: Vec<usize> = values.map(|&v| usize::try_from(v).ok()).collect::<Option<_>>()?;
    let ok = values.windows(2).all(|v| v[0] < v[1]) && values.last().is_none_or(|&v| v < limit);
    ok.then_some(values)
}
