//! Values of stages and decisions that a run takes from a bundle instead of computing them. A bundle is not trusted: a
//! value that does not fit counts as missing.

use super::Bundle;
use super::held::{Rows, left, list, recorded, shown};
use super::parsed::{importance, into, per_set, vector, window};
use super::progress::Ticks;
use crate::num::{Grid, Random, Real};
use crate::pass::Source;
use crate::policy::{Plan, Policy, Scorer};
use crate::stage::{Phase, Site, Stage};
use ndarray::{Array2, ArrayD};

/// The rows that a bundle chose before or inside prefill, where they are known: those that rate, the destinations of
/// visual rows, or the first list of a layer.
fn chosen(decided: &Decided, at: Stage) -> Option<Vec<usize>> {
    match at.site {
        Site::Raters => decided.raters.clone(),
        Site::Into => decided.into.clone(),
        _ => decided.rows.get(at.layer)?.as_ref()?.first().cloned(),
    }
}

/// The rows that were chosen inside prefill, and no other values. Spec: C9.9c
pub(super) struct Alone<'a>(pub &'a Decided);

impl<T: Real> Source<T> for Alone<'_> {
    fn given(&self, _: Stage, _: &[usize]) -> Option<ArrayD<T>> {
        None
    }
    fn rows(&self, at: Stage) -> Option<Vec<usize>> {
        chosen(self.0, at)
    }
}

/// A bundle's values, in the requested shapes. Spec: D10.7
pub(super) struct Values<'a>(pub &'a Bundle, pub &'a Decided, pub &'a Ticks<'a>);

impl<T: Real> Source<T> for Values<'_> {
    fn given(&self, at: Stage, shape: &[usize]) -> Option<ArrayD<T>> {
        self.2.see(at);
        let name = at.to_string();
        self.0.get(&name).filter(|t| t.shape == shape)?;
        ArrayD::from_shape_vec(shape, self.0.numbers(&name).ok()?).ok()
    }
    fn rows(&self, at: Stage) -> Option<Vec<usize>> {
        chosen(self.1, at)
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
    fn rows(&self, at: Stage) -> Option<Vec<usize>> {
        chosen(self.0.1, at)
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
    /// The text rows that rate. Spec: E9.33
    pub raters: Option<Vec<usize>>,
    /// The destination of each visual row before the decoder: [n_v]. Spec: E9.35
    pub into: Option<Vec<usize>>,
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
    /// [L] of the prompt rows that each KV head keeps: \[G\]\[len\], or one list for all heads.
    pub rows: Vec<Option<Rows>>,
    /// The tokens that are fed, step by step; none where a token is not known.
    pub fed: Vec<Option<u32>>,
}

/// The sizes of a model and a prompt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Decoder layers.
    pub layers: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Prompt rows.
    pub rows: usize,
    /// Token ids.
    pub vocab: usize,
    /// The most steps.
    pub longest: usize,
}

impl Decided {
    /// The discrete decisions of a plan, without its other values.
    pub fn by_plan(plan: &Plan, tokens: &[u32]) -> Decided {
        let fed = tokens[..tokens.len().saturating_sub(1)].iter().copied().map(Some).collect();
        let Some(d) = &plan.decisions else { return Decided { fed, ..Decided::default() } };
        let votes = d.layers.iter().all(|l| l.window.iter().all(|w| !w.is_empty()));
        let mut windows = d.layers.iter().flat_map(|l| &l.window);
        Decided {
            raters: windows.find(|w| d.policy.prunes() && !w.is_empty()).cloned(),
            into: Some(d.into.clone()).filter(|into| !into.is_empty()),
            window: d.layers.iter().map(|l| votes.then(|| l.window.clone())).collect(),
            budget: Some(d.budget.clone()),
            rows: plan.kept.iter().cloned().map(Some).collect(),
            fed,
            ..Decided::default()
        }
    }

    /// The decisions in a bundle. scorer: of the policy; positions: of the prompt's rows, [n] or [3, n].
    pub fn in_bundle(
        bundle: &Bundle,
        policy: &Policy,
        scorer: Option<&Scorer>,
        sizes: Sizes,
        positions: &ArrayD<i64>,
    ) -> Decided {
        let Sizes { layers, kv_heads, rows: n, vocab, longest } = sizes;
        let sets = if policy.per_head() { kv_heads } else { 1 };
        let candidates = scorer.map_or(0, |s| s.candidates().len());
        let cuts = policy.prune.cuts(layers, candidates).unwrap_or_default();
        let a_layer = |name: &str| {
            let fits = bundle.get(name).is_some_and(|t| t.shape == [layers]);
            vector(bundle, name).filter(|_| fits)
        };
        let budget = bundle
            .get(&Stage::once(Site::Budget).name())
            .and_then(|_| bundle.i64(&Stage::once(Site::Budget).name()).ok());
        let budget = budget.and_then(|b| per_set(&b, layers));
        Decided {
            raters: list(bundle, &Stage::once(Site::Raters).name()),
            into: into(bundle, candidates),
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
            rows: (0..layers)
                .map(|l| {
                    let rows = match policy.prunes() {
                        true => Some(vec![left(bundle, scorer?, &cuts, l, Some(positions))?]),
                        false => scorer
                            .and_then(|scorer| recorded(bundle, scorer, l, sets))
                            .or_else(|| shown(bundle, l, Some(positions)))
                            .filter(|rows| matches!(rows.len(), 1) || rows.len() == kv_heads),
                    };
                    // The bundle of a longer prompt shows rows that this prompt does not have.
                    rows.filter(|rows| rows.iter().flatten().all(|&row| row < n))
                })
                .collect(),
            fed: fed(bundle, vocab, longest.saturating_add(1)),
        }
    }
}

/// The token that each recorded step was fed: the recorded token, or else the greatest of the logits before it.
/// Spec: C10.7b
fn fed(bundle: &Bundle, vocab: usize, most: usize) -> Vec<Option<u32>> {
    let name = Stage::once(Site::OutputIds).name();
    let tokens: Vec<i64> = bundle.get(&name).and_then(|_| bundle.i64(&name).ok()).into_iter().flatten().collect();
    let recorded =
        bundle.names().filter_map(Stage::parse).filter(|at| at.is_step()).map(|at| at.step.saturating_add(1));
    // Tokens without logits of their own are judged by the logits of a replay.
    let steps = recorded.max().unwrap_or(0).max(tokens.len().saturating_sub(1)).min(most);
    let known = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < vocab);
    let token = |t: usize| match tokens.get(t) {
        Some(&id) => known(id),
        None => greatest(bundle, t).and_then(known),
    };
    (0..steps).map(token).collect()
}

/// The token that a greedy run chooses from the logits of a bundle; none if the run was sampled, or if the two greatest
/// logits are equal.
pub(super) fn greatest(bundle: &Bundle, t: usize) -> Option<i64> {
    let stage = if t == 0 { Phase::Prefill } else { Phase::Step(t - 1) }.logits();
    let all = vector(bundle, &stage.name()).filter(|_| !super::said::is_sampled(bundle))?;
    let best = (0..all.len()).reduce(|best, i| if all[i] > all[best] { i } else { best })?;
    let alone = (0..all.len()).all(|i| i == best || all[i] < all[best]);
    alone.then_some(best as i64)
}
