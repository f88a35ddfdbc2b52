//! Runs the flow of [`crate::generate`] again, by another honest way or from another program's values. Noise is
//! measured this way, and a replay is such a run. If a decision is given, later stages use the given decision; the
//! run's own decision is shown first.

use super::given::{Alone, Decided, Unrounded, Values as Given};
use crate::decoder::Sequence;
use crate::error::{Error, Result};
use crate::generate;
use crate::input::Prepared;
use crate::kernel::{Operands, Turn};
use crate::model::Model;
use crate::num::{Grid, Real};
use crate::pass::{Pass, Precision, Rotation, Source, Tap, Way};
use crate::policy::{LayerScores, Observed, Plan, Policy, Retain, Scorer, Values, over_sets, skewness, strength};
use crate::stage::{Site, Stage};
use ndarray::{Array1, ArrayD};

/// Receives the values of a run.
pub(super) trait Sink<T: Real>: Tap<T> {
    /// Receives numbers of a stage that no pass shows.
    ///
    /// # Errors
    /// An error that prevents the sink from taking the numbers.
    fn take(&mut self, name: &str, values: &Values) -> Result<()>;
    /// Receives the cache after eviction.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    fn cache(&mut self, cache: &crate::cache::Cache<T>) -> Result<()>;
    /// Receives the reason why a run ends before the policy has decided.
    fn undecided(&mut self, _why: &Error) {}
}

/// The densities of a golden's layers, [L], where the budget is sparsity. No stage: beside noise, they are what budgets
/// are judged by. Spec: D10.3
pub(super) const DENSITY: &str = "noise.density";

/// A run that is made again.
pub(super) struct Rerun<'a> {
    /// The model, its weights in the type of the run.
    pub model: &'a Model,
    /// The prompt that the model reads.
    pub prompt: &'a Prepared,
    /// The eviction policy.
    pub policy: &'a Policy,
    /// How many candidates stay: a fraction, or a mean number for each layer.
    pub retain: Retain,
    /// Decisions that later stages use.
    pub decided: &'a Decided,
    /// Values that later stages use, in a replay.
    pub given: Option<&'a Given<'a>>,
}

/// An honest way, the grid in which it stores the policy's numbers, and whether its vectors (norms and biases) keep the
/// checkpoint's type. Spec: D10.1, T10.1
#[derive(Debug, Clone, Copy)]
pub(super) struct Honest {
    pub way: Way,
    pub policy_grid: Grid,
    pub wide_vectors: bool,
}

/// What products of TF32 read: one half of the type's ways each, in this order. Spec: D10.1, R10.14
pub(super) const NARROWED: [Operands; 2] = [Operands::Nearest, Operands::TowardZero];

/// The honest ways of a type. Each difference between honest programs stands in one of them at least. Spec: D10.1
pub(super) fn ways(precision: Precision) -> Vec<Honest> {
    let grid = precision.grid();
    let canonical = Way::default();
    let fused = Way { fused: true, turn: Some(Turn::Exact), ..canonical };
    let in_order = Way { in_order: true, bias_apart: true, turn: Some(Turn::Chain), ..canonical };
    let of = |way, policy_grid| Honest { way, policy_grid, wide_vectors: false };
    if grid == Grid::Native {
        let backwards = Way { backwards: true, turn: Some(Turn::Exact), ..canonical };
        let read: &[Operands] = match precision {
            Precision::Tf32 => &NARROWED,
            _ => &[Operands::Whole],
        };
        let ways = |&operands| [canonical, fused, in_order, backwards].map(|way| of(Way { operands, ..way }, grid));
        return read.iter().flat_map(ways).collect();
    }
    let once = Way { bias_fused: true, rotation: Rotation::Once, gate_once: true, epilogue: true, ..canonical };
    let engine = Way { fused: true, norm_once: true, turn: Some(Turn::Exact), ..once };
    vec![
        of(canonical, grid),
        of(Way { norm_once: true, ..canonical }, grid),
        of(Way { norm_once: true, rotation: Rotation::Tables, ..fused }, Grid::Native),
        of(Way { scaled: true, ..in_order }, grid),
        of(once, grid),
        of(Way { wide: true, ..engine }, Grid::Native),
        Honest { wide_vectors: true, ..of(engine, Grid::Native) },
    ]
}

impl Rerun<'_> {
    /// Runs the flow; `sink` receives every stage's own value.
    ///
    /// # Errors
    /// As the flow's parts, and as the sink.
    pub fn run<T: Real, S: Sink<T>>(&self, grid: Grid, way: Way, policy_grid: Grid, sink: &mut S) -> Result<()> {
        let Rerun { model, prompt, policy, decided, .. } = self;
        let unrounded = self.given.map(|given| Unrounded(given, grid));
        let source = match way.wide {
            true => unrounded.as_ref().map(|given| given as &dyn Source<T>),
            false => self.given.map(|given| given as &dyn Source<T>),
        };
        let alone = Alone(decided);
        let source = source.or(policy.prunes().then_some(&alone as &dyn Source<T>));
        let mut sequence = {
            let mut pass = watched(grid, way, source, sink);
            generate::prefill(model, &mut pass, prompt, std::slice::from_ref(policy))?
        };
        if policy.prunes() {
            for (at, values) in sequence.plan(policy, self.retain)?.tensors() {
                sink.take(&at.name(), &values)?;
            }
        } else if !prompt.roles.visual().is_empty() {
            let scorer = Scorer::new(policy, &prompt.roles)?.storing(policy_grid);
            // Queries and keys that are not finite give no decision.
            match self.decide(&sequence, &scorer, way.operands, sink) {
                Ok(kept) => sequence.cache = sequence.evicted(policy, &kept, grid),
                Err(why) => {
                    sink.undecided(&why);
                    return Ok(());
                }
            };
        }
        sink.cache(&sequence.cache)?;
        if let Some(given) = self.given {
            continue_with(&mut sequence.cache, given);
        }
        for (t, token) in decided.fed.iter().enumerate() {
            // After an unknown token, a replay goes on with the bundle's own values.
            let token = token.unwrap_or(0);
            let mut pass = watched(grid, way, source, sink);
            model.decoder.step(&mut pass, t, &[token], &mut [&mut sequence]);
        }
        Ok(())
    }

    /// Shows the policy's own decision at every stage, computed from the given values of earlier stages; returns the
    /// kept rows.
    fn decide<T: Real, S: Sink<T>>(
        &self,
        sequence: &Sequence<T>,
        scorer: &Scorer,
        operands: Operands,
        sink: &mut S,
    ) -> Result<Vec<Vec<Vec<usize>>>> {
        let d = self.decided;
        // A layer's scores through the run's own window, and through the given window.
        let layers = sequence.observed(scorer.policy(), |l, seen| {
            let [q, k] = [seen.q, seen.k].map(|x| x.mapv(|x| operands.read(x)));
            let seen = &Observed { q: q.view(), k: k.view(), ..*seen };
            let (attention, own) = (scorer.text_attention(l, seen)?, scorer.observe(l, seen)?);
            let given = d.window.get(l).cloned().flatten();
            let through = given.and_then(|window| scorer.observe_through(l, seen, window).ok());
            let through = through.unwrap_or_else(|| own.clone());
            Ok((attention, (own, through)))
        })?;
        let (attention, layers): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
        let (own, mut scores): (Vec<LayerScores>, Vec<LayerScores>) = layers.into_iter().unzip();
        for (l, attention) in attention.into_iter().enumerate() {
            if let Some(attention) = attention {
                sink.take(&Stage::layer(Site::Attention, l).name(), &Values::F64(attention.into_dyn()))?;
            }
        }
        // Shown are the windows of the run itself, and importances through the given windows.
        let shown = |layers: &[LayerScores], sites: &[Site], sink: &mut S| -> Result<()> {
            let plan = Plan { kept: vec![], ..scorer.decide(self.retain, layers) };
            let tensors = plan.tensors().into_iter().filter(|(at, _)| sites.contains(&at.site));
            tensors.into_iter().try_for_each(|(at, values)| sink.take(&at.name(), &values))
        };
        shown(&own, &[Site::Window], sink)?;
        shown(&scores, &[Site::Importance], sink)?;
        for (l, layer) in scores.iter_mut().enumerate() {
            if let Some(given) =
                d.importance.get(l).and_then(Option::as_ref).filter(|i| i.dim() == layer.importance.dim())
            {
                layer.importance = given.clone();
                (layer.strength, layer.skewness) = (over_sets(given, strength), over_sets(given, skewness));
            }
        }
        if self.policy.budget.reads_rows() {
            sink.take(DENSITY, &Values::F64(scores.iter().map(|l| l.spread).collect::<Array1<_>>().into_dyn()))?;
        }
        shown(&scores, &[Site::Strength, Site::Skewness], sink)?;
        for (l, layer) in scores.iter_mut().enumerate() {
            layer.strength = d.strength.as_ref().map_or(layer.strength, |s| s[l]);
            layer.skewness = d.skewness.as_ref().map_or(layer.skewness, |s| s[l]);
        }
        let budget = scorer.budget(self.retain, &scores);
        let own = scorer.keep(budget.clone(), &scores).decisions;
        own.map_or(Ok(()), |own| sink.take(&Stage::once(Site::Budget).name(), &own.budgets()))?;
        let plan = scorer.keep(d.budget.clone().unwrap_or(budget), &scores);
        for (at, values) in plan.tensors().into_iter().filter(|(at, _)| at.site == Site::Kept) {
            sink.take(&at.name(), &values)?;
        }
        let rows = plan.kept.into_iter().enumerate().map(|(l, own)| match d.rows.get(l).and_then(Option::as_ref) {
            Some(given) => (0..own.len()).map(|g| given[g % given.len()].clone()).collect(),
            None => own,
        });
        Ok(rows.collect())
    }
}

/// A pass that the sink watches. In a replay the pass continues with the values of the source.
fn watched<'p, T: Real, S: Sink<T>>(
    grid: Grid,
    way: Way,
    source: Option<&'p dyn Source<T>>,
    sink: &'p mut S,
) -> Pass<'p, T> {
    let pass = Pass::<T>::watched(grid, sink).by(way);
    match source {
        Some(given) => pass.replaying(given),
        None => pass,
    }
}

/// Replaces keys and values of a cache by those of a bundle, which may hold another number of entries.
fn continue_with<T: Real>(cache: &mut crate::cache::Cache<T>, given: &Given<'_>) {
    for (l, heads) in cache.layers.iter_mut().enumerate() {
        let d = heads.first().map_or(0, |h| h.keys().ncols());
        let of = |site: Site| -> Option<ArrayD<T>> {
            let at = Stage::layer(site, l);
            let shape = given.0.get(&at.name())?.shape.to_vec();
            given.given(at, &shape).filter(|_| matches!(shape[..], [g, _, width] if g == heads.len() && width == d))
        };
        let (keys, values) = (of(Site::CacheKey), of(Site::CacheValue));
        let lens: Vec<usize> = keys.iter().chain(&values).map(|x| x.shape()[1]).collect();
        let Some(&len) = lens.first().filter(|&&len| lens.iter().all(|&other| other == len)) else { continue };
        let ragged = heads.iter().any(|head| head.len() != heads[0].len());
        for (g, head) in heads.iter_mut().enumerate() {
            let len = if ragged { head.len().min(len) } else { len };
            if head.len() != len && lens.len() < 2 {
                continue; // the other half of the entries is not known
            }
            let at = |x: &Option<ArrayD<T>>, own: &dyn Fn(usize) -> Vec<T>, e: usize| match x {
                Some(x) => (0..d).map(|i| x[[g, e, i]]).collect::<Vec<_>>(),
                None => own(e),
            };
            let mut filled = crate::cache::HeadCache::new(d);
            filled.reserve(len);
            for e in 0..len {
                let row = head.rows().get(e).copied().unwrap_or(e);
                let key = at(&keys, &|e| head.key(e).collect(), e);
                let value = at(&values, &|e| head.value(e).collect(), e);
                filled.push(row, key.into_iter(), value.into_iter());
            }
            *head = filled;
        }
    }
}
