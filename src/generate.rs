//! The whole flow on one screen: encode, merge, prefill; compress; decode.
//!
//! `run`, `record`, `check`, `eval` and `bench` all use these functions. A single prompt is a batch of one. Nothing is
//! padded, and the bits of a prompt do not depend on the other prompts in its batch (C6.1a).

use crate::cache::{Cache, HeadCache};
use crate::decoder::{AT_ONCE, Observer, Pruning, Sequence};
use crate::error::Result;
use crate::input::{Positions, Prepared};
use crate::model::Model;
use crate::num::{Grid, Real};
use crate::pass::Pass;
use crate::policy::{Decisions, LayerScores, Observed, Plan, Policy, Rater, Retain, Scorer};
use crate::sample::Sampler;
use ndarray::{Array2, Array3};
use std::ops::ControlFlow;

/// Runs one prompt through the model. The prefill records the data that `policies` need. Spec: E6.1–E6.7
///
/// # Errors
/// The errors of [`prefill_batch`].
///
/// ```
/// # #[cfg(feature = "input")] {
/// use aircache::{demo, generate, input::Image, model::Model, num::Grid, pass::Pass, policy::Policy, processor::Processor};
/// let model = Model::load(&demo::files())?;
/// let processor = Processor::load(&demo::files(), &model.config)?;
/// let image = Image::from_bytes(demo::samples()[0].png, "sample")?;
/// let prompt = processor.prepare(&[image], "What does the top right box say?", None)?;
/// let mut pass = Pass::<f32>::new(Grid::Native);
/// let mut sequence = generate::prefill(&model, &mut pass, &prompt, &[Policy::AIRCACHE])?;
/// let plan = sequence.plan(&Policy::AIRCACHE, "0.3".parse()?)?;
/// let full = sequence.cache.bytes();
/// sequence.evict(&plan, Grid::Native);
/// assert!(sequence.cache.bytes() < full / 2);
/// # }
/// # Ok::<(), aircache::Error>(())
/// ```
pub fn prefill<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    prompt: &Prepared,
    policies: &[Policy],
) -> Result<Sequence<T>> {
    let mut sequences = prefill_batch(model, pass, &[(prompt, policies)], AT_ONCE)?;
    Ok(sequences.pop().unwrap_or_else(|| unreachable!("D6.11: one prompt gives one sequence")))
}

/// Runs prompts of any lengths through the model together, at most `at_once` rows at a time. Each prompt comes with the
/// policies that will be applied to it; the prefill records the data that these policies need.
/// Spec: E6.1–E6.7, D6.11, C6.11a
///
/// # Errors
/// A policy does not fit its prompt (A8.13), or the visual rows do not fit the placeholders.
///
/// # Panics
/// If a watched pass gets several prompts.
pub fn prefill_batch<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    prompts: &[(&Prepared, &[Policy])],
    at_once: usize,
) -> Result<Vec<Sequence<T>>> {
    let encoded = encode_batch(model, pass, prompts)?;
    Ok(encoded.prefill(model, pass, at_once))
}

/// Prompts whose images went through the vision tower.
pub struct Encoded<'p, T> {
    /// The embeddings of each prompt, [n, d], with its visual rows, and its positions.
    merged: Vec<(Array2<T>, &'p Positions)>,
    /// A sequence for each prompt, without rows.
    sequences: Vec<Sequence<T>>,
}

/// Runs the images of prompts through the vision tower and the projector: the first half of [`prefill_batch`].
/// Spec: E5.1–E6.1
///
/// # Errors
/// As [`prefill_batch`].
pub fn encode_batch<'p, T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    prompts: &[(&'p Prepared, &[Policy])],
) -> Result<Encoded<'p, T>> {
    let (mut merged, mut sequences) = (Vec::with_capacity(prompts.len()), Vec::with_capacity(prompts.len()));
    for (prompt, policies) in prompts {
        let config = &model.decoder.config;
        policies.iter().try_for_each(|policy| policy.fit(config.layers, config.kv_heads))?;
        let observer = observer(prompt, policies)?;
        let mut pruning = Pruning::of(policies, config.layers, &prompt.roles)?;
        let rater = pruning.rater();
        rater.map_or(Ok(()), |by| model.rates(by))?;
        let visual = model.encode(pass, prompt, rater); // E5.1–E5.15, E9.30, E9.31
        pruning.rate(pass, &prompt.roles, visual.told(), |pass, into| model.contextual(pass, &visual, into)); // E9.32, E9.35
        let x = model.merge(pass, prompt, visual.rows)?; // E6.1
        pruning.choose_raters(pass, &prompt.roles, x.view()); // E9.33
        merged.push((x, &prompt.positions));
        let (roles, deepstack) = (prompt.roles.clone(), visual.deepstack);
        let cache = model.decoder.cache_in(pass.stored_in_cache());
        sequences.push(Sequence { observer, pruning, roles, deepstack, ..Sequence::new(cache) });
    }
    Ok(Encoded { merged, sequences })
}

impl<T: Real> Encoded<'_, T> {
    /// Runs the prompts through the language model: the second half of [`prefill_batch`]. Spec: E6.2–E6.7
    ///
    /// # Panics
    /// As [`prefill_batch`].
    pub fn prefill(mut self, model: &Model, pass: &mut Pass<'_, T>, at_once: usize) -> Vec<Sequence<T>> {
        model.decoder.prefill(pass, &self.merged, &mut self.sequences, at_once); // E6.2–E6.7
        self.sequences
    }
}

/// The observer for the data that the policies need from a prompt.
fn observer<T: Real>(prompt: &Prepared, policies: &[Policy]) -> Result<Observer<T>> {
    let mut rows = Vec::new();
    for policy in policies {
        rows.extend_from_slice(Scorer::new(policy, &prompt.roles)?.rows());
    }
    rows.sort_unstable();
    rows.dedup();
    let observer = Observer::new(rows, policies.iter().any(Policy::needs_received));
    Ok(observer.expecting(policies.iter().filter_map(Policy::needs_future)))
}

impl<T: Real> Sequence<T> {
    /// The plan of an eviction: the rows of the prompt that each KV head keeps. Spec: E8.1–E8.7
    ///
    /// # Errors
    /// The errors of [`Scorer::new`] and [`Scorer::observe`].
    pub fn plan(&self, policy: &Policy, retain: Retain) -> Result<Plan> {
        let scorer = Scorer::new(policy, &self.roles)?;
        if policy.prunes() {
            return Ok(self.pruned(policy));
        }
        Ok(scorer.decide(retain, &self.scores(&scorer)?))
    }

    /// The plan that says what was dropped inside prefill: the rows that are left in each layer. The importance of a visual
    /// row is what it got at the last cut before the layer; 0 for a row that is not there, 1 before the first cut. The
    /// window of a layer is the raters of that cut, if text rows rate there.
    /// Spec: C9.9b
    fn pruned(&self, policy: &Policy) -> Plan {
        let (visual, n) = (self.roles.visual(), self.roles.len());
        let of = |l: usize| {
            let made = self.pruning.made.iter().rev().find(|made| made.layer <= l);
            let rows: Vec<usize> = made.map_or_else(|| (0..n).collect(), |made| made.rows.clone());
            let kept: Vec<usize> = (0..visual.len()).filter(|&v| rows.binary_search(&visual[v]).is_ok()).collect();
            let mut importance = Array2::from_elem((1, visual.len()), if made.is_some() { 0.0 } else { 1.0 });
            for (row, vote) in made.iter().flat_map(|made| &made.votes) {
                importance[[0, visual.partition_point(|v| v < row)]] = *vote;
            }
            let heads = self.cache.layers[l].len();
            let mut scores = LayerScores::of(importance, heads);
            let polled = |layer: usize| self.pruning.cuts.iter().any(|c| c.layer == layer && c.by == Rater::Text);
            if made.is_some_and(|made| polled(made.layer)) {
                scores.window = vec![self.pruning.raters.clone()];
            }
            (vec![rows; heads], (scores, vec![kept]))
        };
        let (kept, told): (Vec<_>, Vec<_>) = (0..self.cache.layers.len()).map(of).unzip();
        let (layers, sets): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        let budget = sets.iter().map(|sets| sets[0].len()).collect();
        let (policy, into) = (policy.clone(), self.pruning.into.clone());
        let decisions = Decisions { policy, layers, budget, kept: sets, into };
        Plan { kept, rows: n, decisions: Some(decisions) }
    }

    /// Evicts the entries that a plan does not keep, or merges them. grid: the type in which merged numbers are stored.
    /// Spec: E7.2, E7.5, C9.8b
    pub fn evict(&mut self, plan: &Plan, grid: Grid) {
        let policy = plan.decisions.as_ref().map_or(Policy::AIRCACHE, |d| d.policy.clone());
        match policy.merge() {
            _ if plan.is_full() || policy.prunes() => {} // rows that were dropped never had entries
            None => self.cache.compact(&plan.kept),
            Some(_) => self.cache = self.evicted(&policy, &plan.kept, grid),
        }
    }

    /// The cache after an eviction that keeps these rows, \[L\]\[G\]; this cache does not change. Spec: C7.2e, E7.5
    pub fn evicted(&self, policy: &Policy, kept: &[Vec<Vec<usize>>], grid: Grid) -> Cache<T> {
        match policy.merge() {
            None => self.cache.picked(kept),
            Some(how) => self.cache.merged(kept, &policy.candidates(&self.roles), how, grid),
        }
    }

    /// The scores of every layer. The same scores can be used for any number of retentions.
    ///
    /// # Errors
    /// The errors of [`Scorer::observe`].
    pub fn scores(&self, scorer: &Scorer) -> Result<Vec<LayerScores>> {
        self.observed(scorer.policy(), |l, seen| scorer.observe(l, seen))
    }

    /// Calls `f` with what the policy needs of each layer, and returns the results, in the order of the layers.
    ///
    /// # Errors
    /// The errors of `f`.
    pub fn observed<R>(&self, policy: &Policy, f: impl Fn(usize, &Observed<'_, T>) -> Result<R>) -> Result<Vec<R>> {
        let layers = self.observer.layers.iter().zip(&self.cache.layers).enumerate();
        let each = layers.map(|(l, (seen, heads))| {
            let (n, d) = (self.roles.len(), seen.queries.dim().2);
            let stacked = |of: fn(&HeadCache<T>) -> Array2<T>| {
                let mut all = Array3::from_elem((heads.len(), n, d), T::ZERO);
                all.outer_iter_mut().zip(heads).for_each(|(mut x, head)| x.assign(&of(head)));
                all
            };
            let k = stacked(HeadCache::keys);
            let v = policy.needs_values().then(|| stacked(HeadCache::values));
            let received = seen.received.as_ref().map(|r| Array2::from_shape_fn((r.len(), n), |(g, i)| r[g][i]));
            let received = received.as_ref().map(|r| r.view());
            let of = |count: u32| self.observer.futures.iter().position(|&asked| asked == count);
            let future = policy.needs_future().and_then(of).and_then(|i| seen.futures.get(i));
            let (q, rows, k, v) =
                (seen.queries.view(), &self.observer.rows[..], k.view(), v.as_ref().map(|v| v.view()));
            f(l, &Observed { q, rows, k, received, v, future })
        });
        each.collect()
    }
}

/// The conditions that end generation.
#[derive(Debug, Clone)]
pub struct Until {
    /// Tokens that end the answer. The answer includes its end token.
    pub stop: Vec<u32>,
    /// The maximum number of generated tokens.
    pub max_new_tokens: usize,
}

/// Generates from one prefilled sequence, with or without eviction. `each` is called with every chosen token and may
/// end the answer.
///
/// # Errors
/// A logit is NaN or +∞, or all logits are −∞.
pub fn decode<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    sequence: &mut Sequence<T>,
    sampler: &mut Sampler,
    until: &Until,
    mut each: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>> {
    let (sequences, samplers) = (std::slice::from_mut(sequence), std::slice::from_mut(sampler));
    let mut tokens = decode_batch(model, pass, sequences, samplers, until, |_, token| each(token))?;
    Ok(tokens.pop().unwrap_or_else(|| unreachable!("E6.8: one sequence gives one answer")))
}

/// Generates from several sequences together. A step reads the weights once for all sequences. After a sequence ends,
/// it takes no more steps. Spec: E6.8, C6.1a
///
/// samplers: one for each sequence. `each` is called with the number of the sequence and every chosen token, and may
/// end that sequence. Returns the tokens of each sequence, including a stop token. The last token of a sequence is not
/// fed to the model (C6.8b).
///
/// # Errors
/// A logit is NaN or +∞, or all logits are −∞.
///
/// # Panics
/// If a watched pass gets several sequences.
pub fn decode_batch<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    sequences: &mut [Sequence<T>],
    samplers: &mut [Sampler],
    until: &Until,
    mut each: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Vec<Vec<u32>>> {
    assert!(!pass.is_watched() || sequences.len() < 2, "E6.8: stages are those of one sequence");
    let mut tokens = vec![Vec::new(); sequences.len()];
    let mut open: Vec<(usize, &mut Sequence<T>)> = sequences.iter_mut().enumerate().collect();
    for t in 0..until.max_new_tokens {
        let mut fed = Vec::with_capacity(open.len());
        let mut going = Vec::with_capacity(open.len());
        for (i, sequence) in open {
            let token = samplers[i].next(&sequence.logits)?; // E6.9
            tokens[i].push(token);
            if each(i, token).is_continue() && !until.stop.contains(&token) && t + 1 < until.max_new_tokens {
                fed.push(token);
                going.push((i, sequence));
            }
        }
        open = going;
        if open.is_empty() {
            break;
        }
        let mut sequences: Vec<&mut Sequence<T>> = open.iter_mut().map(|(_, sequence)| &mut **sequence).collect();
        model.decoder.step(pass, t, &fed, &mut sequences); // E6.8
    }
    Ok(tokens)
}
