//! Several prompts, or several continuations of one, side by side: one reading of the weights serves all of them.
//!
//! Nothing is padded, and nobody's bits depend on the company (C6.1a).

use super::Prefilled;
use crate::cache::Cache;
use crate::decoder::{AT_ONCE, Observer, Sequence};
use crate::error::Result;
use crate::generate::Until;
use crate::input::Prepared;
use crate::model::Model;
use crate::num::Real;
use crate::pass::Pass;
use crate::policy::{Policy, Scorer};
use crate::sample::Sampler;
use ndarray::Axis;
use std::ops::ControlFlow;

/// A prompt, and the policies that must be able to decide about it.
pub type Wanted<'a> = (&'a Prepared, &'a [Policy]);

/// Runs prompts of any lengths through the model together, at most `at_once` rows at a time; each comes out as
/// [`super::prefill`] gives it. Spec: D6.11, C6.11a
///
/// # Errors
/// As [`super::prefill`].
pub fn prefill_batch<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    prompts: &[Wanted<'_>],
    at_once: usize,
) -> Result<Vec<Prefilled<T>>> {
    let mut observers = Vec::with_capacity(prompts.len());
    let mut merged = Vec::with_capacity(prompts.len());
    for (prompt, policies) in prompts {
        model.fits(prompt)?;
        observers.push(observer(prompt, policies)?);
        let visual = model.encode(pass, prompt);
        merged.push(model.merge(pass, prompt, visual)?);
    }
    let mut caches: Vec<Cache<T>> = prompts.iter().map(|_| model.decoder.cache()).collect();
    let mut sequences = Vec::with_capacity(prompts.len());
    for (((prompt, _), x), (cache, observer)) in prompts.iter().zip(merged).zip(caches.iter_mut().zip(&mut observers)) {
        sequences.push(Sequence::<T> { x, positions: &prompt.positions, cache, observer });
    }
    let last = model.decoder.prefill(pass, &mut sequences, at_once);
    drop(sequences);
    let logits = model.decoder.logits(pass, model.decoder.final_norm(pass, last.view()).view());
    let parts = prompts.iter().zip(logits.axis_iter(Axis(0))).zip(caches.into_iter().zip(observers));
    let prefilled = parts.map(|(((prompt, _), logits), (cache, observer))| Prefilled {
        cache,
        observer,
        logits: logits.to_vec(),
        next_position: prompt.positions.next(),
        roles: prompt.roles.clone(),
    });
    Ok(prefilled.collect())
}

/// The chunks that [`super::prefill`] takes: [`AT_ONCE`] rows.
pub(super) fn alone<T: Real>(model: &Model, pass: &mut Pass<'_, T>, wanted: Wanted<'_>) -> Result<Prefilled<T>> {
    let mut prefilled = prefill_batch(model, pass, &[wanted], AT_ONCE)?;
    Ok(prefilled.pop().unwrap_or_else(|| unreachable!("D6.11: one prompt gives one cache")))
}

/// What the policies ask to see of a prompt.
pub(super) fn observer<T: Real>(prompt: &Prepared, policies: &[Policy]) -> Result<Observer<T>> {
    let mut rows = Vec::new();
    for policy in policies {
        rows.extend_from_slice(Scorer::new(policy, &prompt.roles)?.rows());
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(Observer::new(rows, policies.iter().any(Policy::needs_received)))
}

/// A sequence that goes on: its cache, and what comes next.
#[derive(Debug, Clone)]
pub struct Continuation<T> {
    /// Keys and values so far.
    pub cache: Cache<T>,
    /// Logits of the next token: \[V\].
    pub logits: Vec<T>,
    /// The position where the next token stands.
    pub position: i64,
}

impl<T: Real> Prefilled<T> {
    /// Goes on from this prompt's own cache.
    pub fn into_continuation(self) -> Continuation<T> {
        Continuation { cache: self.cache, logits: self.logits, position: self.next_position }
    }

    /// Goes on from `cache`, which holds what stayed of this prompt's.
    pub fn continued(&self, cache: Cache<T>) -> Continuation<T> {
        Continuation { cache, logits: self.logits.clone(), position: self.next_position }
    }
}

/// Generates from several caches side by side, as [`super::decode`] does from each, bit for bit; a sequence that ends makes no
/// further steps, and its cache is given back. Spec: E6.8, C6.1a
///
/// samplers: one for each. `each` sees every token with its sequence's place as it is chosen, and may end that sequence.
/// Returns the tokens of each.
///
/// # Errors
/// Logits that are not numbers.
pub fn decode_batch<T: Real>(
    model: &Model,
    pass: &mut Pass<'_, T>,
    batch: Vec<Continuation<T>>,
    samplers: &mut [Sampler],
    until: &Until,
    mut each: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Vec<Vec<u32>>> {
    let mut tokens = vec![Vec::new(); batch.len()];
    let mut open: Vec<(usize, Continuation<T>)> =
        batch.into_iter().enumerate().filter(|_| until.max_new_tokens > 0).collect();
    while !open.is_empty() {
        let (mut fed, mut left) = (Vec::new(), Vec::with_capacity(open.len()));
        for (i, sequence) in open {
            let token = samplers[i].next(&sequence.logits)?;
            tokens[i].push(token);
            let ended = each(i, token).is_break() || until.stop.contains(&token);
            if !ended && tokens[i].len() < until.max_new_tokens {
                fed.push(token);
                left.push((i, sequence));
            }
        }
        open = left;
        if open.is_empty() {
            break;
        }
        let positions: Vec<i64> = open.iter().map(|(_, s)| s.position).collect();
        let mut caches: Vec<&mut Cache<T>> = open.iter_mut().map(|(_, s)| &mut s.cache).collect();
        let next = model.decoder.step(pass, &fed, &positions, &mut caches);
        for ((_, sequence), logits) in open.iter_mut().zip(next.outer_iter()) {
            (sequence.logits, sequence.position) = (logits.to_vec(), sequence.position + 1);
        }
    }
    Ok(tokens)
}
