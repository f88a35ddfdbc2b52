//! A file of questions with one policy: prompts are packed into one prefill, and their evicted caches are decoded together.

use super::Item;
use crate::decoder::{AT_ONCE, Observer};
use crate::error::{Error, Result};
use crate::generate::{self, Until};
use crate::input::Processor;
use crate::model::Model;
use crate::num::Real;
use crate::pass::{Pass, Precision};
use crate::policy::{Policy, Retain, Scorer};
use crate::sample::{Sampler, Sampling};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Answers questions side by side. Each answer equals the answer of the question alone (C6.1a).
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// The model.
    pub model: &'a Model,
    /// What makes prompts for it.
    pub processor: &'a Processor,
    /// What evicts.
    pub policy: Policy,
    /// How much stays.
    pub retain: Retain,
    /// How to compute.
    pub precision: Precision,
    /// How tokens are chosen; every question begins the sequence of draws anew.
    pub sampling: Sampling,
    /// When an answer ends.
    pub until: Until,
}

impl Batch<'_> {
    /// The answers, in order. items: each with its number in the file, from 0, for messages.
    ///
    /// Whole prompts are prefilled together while they fit into one chunk, and evicted before the next are read, so that
    /// of full caches no more is held than a chunk's, or one long prompt's.
    ///
    /// # Errors
    /// An image that cannot be read, a prompt that is too long, a policy that does not fit it; the message names the question.
    pub fn answers(&self, items: &[(usize, &Item)]) -> Result<Vec<String>> {
        match self.precision {
            Precision::Truth => self.answers_in::<f64>(items),
            Precision::Fast | Precision::Bf16 | Precision::F16 => self.answers_in::<f32>(items),
        }
    }

    fn answers_in<T: Real>(&self, items: &[(usize, &Item)]) -> Result<Vec<String>> {
        let prepared = |&(i, item): &(usize, &Item)| {
            let prepare = || {
                let prompt = item.prepare(self.processor)?;
                let policy = self.policy.with_tail(self.processor.tail(&prompt, &item.question));
                Scorer::new(&policy, &prompt.roles)?;
                Ok((prompt, [policy]))
            };
            prepare().map_err(|e: Error| e.within(format!("question {}", i + 1)))
        };
        let mut prompts = Vec::with_capacity(items.len());
        for run in Item::side_by_side(items, |&(_, item)| item)? {
            prompts.extend(run.par_iter().map(prepared).collect::<Result<Vec<_>>>()?);
        }
        let mut pass = Pass::<T>::new(self.precision.grid());
        let mut batch = Vec::with_capacity(prompts.len());
        let mut rest = &prompts[..];
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |(prompt, _): &&(crate::input::Prepared, _)| {
                rows += prompt.ids.len();
                rows <= AT_ONCE
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            let wanted: Vec<_> = now.iter().map(|(prompt, policy)| (prompt, &policy[..])).collect();
            let prefilled = generate::prefill_batch(self.model, &mut pass, &wanted, AT_ONCE)?;
            for (mut sequence, (_, [policy])) in prefilled.into_iter().zip(now) {
                let plan = sequence.plan(policy, self.retain)?;
                sequence.observer = Observer::default();
                if !plan.is_full() {
                    sequence.cache.compact(&plan.kept);
                }
                batch.push(sequence);
            }
            rest = later;
        }
        let mut samplers = vec![Sampler::new(self.sampling)?; batch.len()];
        let each = |_, _| ControlFlow::Continue(());
        let tokens = generate::decode_batch(self.model, &mut pass, &mut batch, &mut samplers, &self.until, each)?;
        tokens.iter().map(|tokens| self.processor.tokenizer().decode(tokens)).collect()
    }
}
