//! The whole flow on one screen: encode, merge, prefill; compress; decode.

use crate::cache::Cache;
use crate::decoder::{Observer, Segment};
use crate::error::Result;
use crate::input::Prepared;
use crate::model::Model;
use crate::num::Real;
use crate::pass::{Part, Pass, Stage};
use crate::policy::{LayerScores, Observed, Plan, Policy, Retain, Scorer};
use crate::roles::Roles;
use crate::sample::{Sampler, Sampling};
use ndarray::{Array3, s};
use std::ops::ControlFlow;

/// A prompt that has gone through all layers.
#[derive(Debug, Clone)]
pub struct Prefilled<T> {
    /// Keys and values of every prompt row, until compressed.
    pub cache: Cache<T>,
    /// What the policies asked to see.
    pub observer: Observer<T>,
    /// Logits of the last prompt row: \[V\].
    pub logits: Vec<T>,
    /// The rotary position of the first generated token.
    pub next_position: i64,
    /// What each prompt row is.
    pub roles: Roles,
}

/// Runs a prompt through the model; `policies` say what must be observed on the way. Spec: E6.1–E6.7
///
/// # Errors
/// A policy that does not fit the prompt (A8.13), or visual rows that do not fit its placeholders.
///
/// ```
/// # #[cfg(feature = "input")] {
/// use aircache::{demo, generate, input::{Image, Processor}, model::Model, num::Grid, pass::Pass, policy::Policy};
/// let model = Model::load(&demo::files())?;
/// let processor = Processor::load(&demo::files(), &model.config)?;
/// let image = Image::from_bytes(demo::samples()[0].png, "sample")?;
/// let prompt = processor.prepare(&[image], "What does the top right box say?", None)?;
/// let mut pass = Pass::<f32>::new(Grid::Native);
/// let mut prefilled = generate::prefill(&model, &mut pass, &prompt, &[Policy::AIRCACHE])?;
/// let plan = prefilled.plan(&Policy::AIRCACHE, "0.3".parse()?)?;
/// let full = prefilled.cache.bytes();
/// prefilled.cache.compact(&plan.kept);
/// assert!(prefilled.cache.bytes() < full / 2);
/// # }
/// # Ok::<(), aircache::Error>(())
/// ```
pub fn prefill<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    prompt: &Prepared,
    policies: &[Policy],
) -> Result<Prefilled<T>> {
    let mut rows = Vec::new();
    for policy in policies {
        rows.extend_from_slice(Scorer::new(policy, &prompt.roles)?.rows());
    }
    rows.sort_unstable();
    rows.dedup();
    let mut observer = Observer::new(rows, policies.iter().any(Policy::needs_received));

    let visual = model.encode(pass, prompt);
    let merged = model.merge(pass, prompt, visual)?;
    let next_position = prompt.positions.next();
    let mut cache = model.decoder.cache();
    let segment = Segment { cache: &mut cache, rows: prompt.ids.len() };
    let x = model.decoder.forward(pass, merged, &prompt.positions, &mut [segment], Some(&mut observer));
    let x = if pass.is_watched() { x } else { x.slice(s![-1.., ..]).to_owned() };
    let x = model.decoder.final_norm(pass, x.view());
    let given = pass.show(Stage::at(Part::Decoder, "norm"), x.view()).map(|x| x.into_dimensionality());
    let x = given.and_then(|x| x.ok()).unwrap_or(x);
    let logits = model.decoder.logits(pass, x.slice(s![-1.., ..]));
    pass.show(Stage::at(Part::Decoder, "logits"), logits.row(0));
    Ok(Prefilled { cache, observer, logits: logits.row(0).to_vec(), next_position, roles: prompt.roles.clone() })
}

impl<T: Real> Prefilled<T> {
    /// What every layer has to say to a policy; one observation serves any number of retentions.
    ///
    /// # Errors
    /// As [`Scorer::observe`].
    pub fn scores(&self, scorer: &Scorer) -> Result<Vec<LayerScores>> {
        self.observed(|l, seen| scorer.observe(l, seen))
    }

    /// What `f` makes of each layer's observed queries and keys, in order.
    ///
    /// # Errors
    /// As `f`.
    pub fn observed<R>(&self, f: impl Fn(usize, &Observed<'_, T>) -> Result<R>) -> Result<Vec<R>> {
        let layer = |(l, seen): (usize, &crate::decoder::LayerObserved<T>)| {
            let heads = &self.cache.layers[l];
            let (n, d) = (self.roles.len(), heads.first().map_or(0, |h| h.keys().ncols()));
            let mut k = Array3::from_elem((heads.len(), n, d), T::ZERO);
            for (mut k, head) in k.outer_iter_mut().zip(heads) {
                k.assign(&head.keys());
            }
            let received = seen.received.as_ref().map(|r| r.view());
            f(l, &Observed { q: seen.queries.view(), rows: &self.observer.rows, k: k.view(), received })
        };
        self.observer.layers.iter().enumerate().map(layer).collect()
    }

    /// Which rows each KV head keeps. Spec: E8.1–E8.7
    ///
    /// # Errors
    /// As [`Scorer::new`] and [`Scorer::observe`].
    pub fn plan(&self, policy: &Policy, retain: Retain) -> Result<Plan> {
        let scorer = Scorer::new(policy, &self.roles)?;
        Ok(scorer.decide(retain, &self.scores(&scorer)?))
    }
}

/// When generation ends.
#[derive(Debug, Clone)]
pub struct Until {
    /// Tokens that end the answer; they are part of it.
    pub stop: Vec<u32>,
    /// Tokens generated at most.
    pub max_new_tokens: usize,
}

/// Generates from a prefilled, perhaps compacted cache, at the positions after the prompt. Spec: E6.8
///
/// `each` sees every token as it is chosen and may break off. Returns the tokens, a stop token included; the last one is
/// not fed (C6.8b).
///
/// # Errors
/// Logits that are not numbers.
pub fn decode<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    prefilled: &mut Prefilled<T>,
    sampler: &mut Sampler,
    until: &Until,
    mut each: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    let mut logits = prefilled.logits.clone();
    while tokens.len() < until.max_new_tokens {
        let token = sampler.next(&logits)?;
        tokens.push(token);
        if each(token).is_break() || until.stop.contains(&token) || tokens.len() == until.max_new_tokens {
            break;
        }
        let fed = tokens.len() - 1;
        let position = prefilled.next_position + fed as i64;
        let next = model.decoder.step(pass, &[token], &[position], &mut [&mut prefilled.cache]);
        logits = pass.put(Stage::layer(Part::Step, fed, "logits"), next.row(0).to_owned()).to_vec();
    }
    Ok(tokens)
}

/// Generates greedily from several caches of one prompt side by side, as [`decode`] does from each, bit for bit.
///
/// caches: one a continuation, from [`Cache::picked`]. Returns the tokens of each.
///
/// # Errors
/// Logits that are not numbers.
pub fn decode_batch<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    prefilled: &Prefilled<T>,
    mut caches: Vec<Cache<T>>,
    until: &Until,
) -> Result<Vec<Vec<u32>>> {
    let mut greedy = Sampler::new(Sampling::Greedy)?;
    let mut tokens = vec![Vec::new(); caches.len()];
    let mut open: Vec<usize> = (0..caches.len()).filter(|_| until.max_new_tokens > 0).collect();
    let mut logits = vec![prefilled.logits.clone(); open.len()];
    for fed in 0.. {
        for (&i, logits) in open.iter().zip(&logits) {
            tokens[i].push(greedy.next(logits)?);
        }
        open.retain(|&i| {
            tokens[i].len() < until.max_new_tokens && !tokens[i].last().is_some_and(|t| until.stop.contains(t))
        });
        if open.is_empty() {
            break;
        }
        let last: Vec<u32> = open.iter().filter_map(|&i| tokens[i].last().copied()).collect();
        let positions = vec![prefilled.next_position + fed as i64; open.len()];
        let mut batch: Vec<&mut Cache<T>> =
            caches.iter_mut().enumerate().filter(|(i, _)| open.binary_search(i).is_ok()).map(|(_, c)| c).collect();
        let next = model.decoder.step(pass, &last, &positions, &mut batch);
        logits = next.outer_iter().map(|row| row.to_vec()).collect();
    }
    Ok(tokens)
}
