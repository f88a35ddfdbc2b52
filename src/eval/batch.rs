//! A file of questions with one policy: prompts are packed into one prefill, and their evicted caches are decoded together.

use super::Item;
use crate::decoder::{AT_ONCE, Observer};
use crate::error::{Error, Result};
use crate::generate::{self, Until};
use crate::input::Prepared;
use crate::model::Model;
use crate::num::{Grid, Real};
use crate::pass::{Pass, Precision, Way, Work};
use crate::policy::{Policy, Retain, Scorer};
use crate::processor::Processor;
use crate::sample::{Sampler, Sampling};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Answers questions side by side. Each answer equals the answer of the question alone (C6.1a).
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// The model.
    pub model: &'a Model,
    /// The processor that makes the model's prompts.
    pub processor: &'a Processor,
    /// The eviction policy.
    pub policy: Policy,
    /// The retention: how much the policy keeps.
    pub retain: Retain,
    /// The precision of the computation.
    pub precision: Precision,
    /// The way of the computation.
    pub way: Way,
    /// The type that caches store.
    pub kv: Grid,
    /// The choice of tokens; each question restarts the sequence of random draws.
    pub sampling: Sampling,
    /// The end of an answer.
    pub until: Until,
}

impl Batch<'_> {
    /// The prompts of some items, each with the policy adjusted to it. items: each with its number in the file, from 0,
    /// for messages.
    ///
    /// # Errors
    /// An image cannot be read, a prompt is too long, or a policy does not fit the prompt; the message names the
    /// question.
    pub fn prompts(&self, items: &[(usize, &Item)]) -> Result<Vec<(Prepared, Policy)>> {
        let prepared = |&(i, item): &(usize, &Item)| {
            let prepare = || {
                let prompt = item.prepare(self.processor)?;
                let policy = self.policy.at(self.retain).with_tail(self.processor.tail(&prompt, &item.question));
                Scorer::new(&policy, &prompt.roles)?;
                Ok((prompt, policy))
            };
            prepare().map_err(|e: Error| e.within(format!("question {}", i + 1)))
        };
        let mut prompts = Vec::with_capacity(items.len());
        for run in Item::side_by_side(items, |&(_, item)| item, self.processor)? {
            prompts.extend(run.par_iter().map(prepared).collect::<Result<Vec<_>>>()?);
        }
        Ok(prompts)
    }

    /// The answers to prompts, in order.
    ///
    /// Whole prompts are prefilled together while they fit into one chunk. They are evicted before the next prompts are
    /// read. So the memory never holds more full caches than the caches of one chunk, or of one long prompt.
    ///
    /// # Errors
    /// The model refuses a prompt.
    pub fn answers(&self, prompts: &[(Prepared, Policy)]) -> Result<Vec<String>> {
        self.precision.run(Answers(self, prompts))
    }
}

/// The answers to prompts, in order.
struct Answers<'a>(&'a Batch<'a>, &'a [(Prepared, Policy)]);

impl Work for Answers<'_> {
    type Output = Result<Vec<String>>;

    fn run<T: Real>(self) -> Self::Output {
        let Answers(batch, prompts) = self;
        let mut pass = Pass::<T>::new(batch.precision.grid()).by(batch.way).with_kv(batch.kv);
        let mut sequences = Vec::with_capacity(prompts.len());
        let mut rest = prompts;
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |(prompt, _): &&(Prepared, Policy)| {
                rows += prompt.ids.len();
                rows <= AT_ONCE
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            let wanted: Vec<_> = now.iter().map(|(prompt, policy)| (prompt, std::slice::from_ref(policy))).collect();
            let prefilled = generate::prefill_batch(batch.model, &mut pass, &wanted, AT_ONCE)?;
            for (mut sequence, (_, policy)) in prefilled.into_iter().zip(now) {
                let plan = sequence.plan(policy, batch.retain)?;
                sequence.observer = Observer::default();
                sequence.evict(&plan, pass.grid);
                sequences.push(sequence);
            }
            rest = later;
        }
        let mut samplers = vec![Sampler::new(batch.sampling)?; sequences.len()];
        let each = |_, _| ControlFlow::Continue(());
        let tokens = generate::decode_batch(batch.model, &mut pass, &mut sequences, &mut samplers, &batch.until, each)?;
        tokens.iter().map(|tokens| batch.processor.tokenizer().decode(tokens)).collect()
    }
}
