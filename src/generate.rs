//! The whole flow on one screen: encode, merge, prefill; compress; decode.

mod batch;

pub use batch::{Continuation, Wanted, decode_batch, prefill_batch};

use crate::cache::Cache;
use crate::decoder::{Observer, Segment};
use crate::error::Result;
use crate::input::Prepared;
use crate::model::Model;
use crate::num::Real;
use crate::pass::{Part, Pass, Stage};
use crate::policy::{LayerScores, Observed, Plan, Policy, Retain, Scorer};
use crate::roles::Roles;
use crate::sample::Sampler;
use ndarray::{Array2, Array3, s};
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
/// A policy that does not fit the prompt (A8.13), visual rows that do not fit its placeholders, or too little memory.
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
    if !pass.is_watched() {
        return batch::alone(model, pass, (prompt, policies)); // the same bits in less memory: C6.11a
    }
    model.fits(prompt)?;
    let mut observer = batch::observer(prompt, policies)?;
    let visual = model.encode(pass, prompt);
    let merged = model.merge(pass, prompt, visual)?;
    let next_position = prompt.positions.next();
    let mut cache = model.decoder.cache();
    let segment = Segment { cache: &mut cache, rows: prompt.ids.len(), observer: Some(&mut observer), length: None };
    let x = model.decoder.forward(pass, merged, &prompt.positions, &mut [segment]);
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
            let received = seen.received.as_ref().map(|r| Array2::from_shape_fn((r.len(), n), |(g, i)| r[g][i]));
            let received = received.as_ref().map(|r| r.view());
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
