//! One question for all cells: one prefill, one plan for each cell, and all cells decoded together.

use super::Cells;
use crate::error::Result;
use crate::generate::{self, Until};
use crate::input::Prepared;
use crate::model::Model;
use crate::num::Real;
use crate::pass::{Pass, Precision, Work};
use crate::policy::{Plan, Policy, Scorer};
use crate::processor::Processor;
use crate::sample::{Sampler, Sampling};
use std::ops::ControlFlow;

/// Answers questions.
#[derive(Debug, Clone, Copy)]
pub struct Examiner<'a> {
    /// The model.
    pub model: &'a Model,
    /// The processor that makes the model's prompts.
    pub processor: &'a Processor,
    /// The pairs of policy and retention; each question is answered once for each pair.
    pub cells: &'a Cells,
    /// The precision of the computation.
    pub precision: Precision,
    /// The largest number of tokens of an answer.
    pub max_new_tokens: usize,
}

impl Examiner<'_> {
    /// The greedy answers of all cells to the prompt of one question, in the order of the cells.
    ///
    /// # Errors
    /// A policy does not fit the prompt; the model refuses the prompt.
    pub fn answers(&self, prompt: &Prepared, question: &str) -> Result<Vec<String>> {
        self.precision.run(Answers(self, prompt, question))
    }

    /// Like [`answers`](Self::answers), and calls `told` with the index and the plan of each cell.
    ///
    /// # Errors
    /// As [`answers`](Self::answers).
    pub(crate) fn try_all<T: Real>(
        &self,
        prompt: &Prepared,
        question: &str,
        mut told: impl FnMut(usize, Plan),
    ) -> Result<Vec<String>> {
        let tail = self.processor.tail(prompt, question);
        let fitted = |(policy, places): (Policy, Vec<usize>)| (policy.with_tail(tail), places);
        let by_policy: Vec<(Policy, Vec<usize>)> = self.cells.policies().into_iter().map(fitted).collect();
        // One prefill serves all policies that decide after it; every other cell has a prefill of its own.
        let (alone, shared): (Vec<_>, Vec<_>) = by_policy.iter().partition(|(policy, _)| policy.prunes());
        let mut pass = Pass::<T>::new(self.precision.grid());
        let mut caches = vec![None; self.cells.all.len()];
        if !shared.is_empty() {
            let policies: Vec<Policy> = shared.iter().map(|(policy, _)| policy.clone()).collect();
            let sequence = generate::prefill(self.model, &mut pass, prompt, &policies)?;
            for (policy, places) in shared {
                let scorer = Scorer::new(policy, &prompt.roles)?;
                let scores = sequence.scores(&scorer)?;
                for &place in places {
                    let plan = scorer.decide(self.cells.all[place].fraction, &scores);
                    caches[place] = Some(sequence.with_cache(sequence.evicted(policy, &plan.kept, pass.grid)));
                    told(place, plan);
                }
            }
        }
        for (policy, places) in alone {
            for &place in places {
                let retain = self.cells.all[place].fraction;
                let sequence = generate::prefill(self.model, &mut pass, prompt, &[policy.at(retain)])?;
                told(place, sequence.plan(policy, retain)?);
                caches[place] = Some(sequence);
            }
        }
        let mut caches: Vec<_> = caches.into_iter().flatten().collect();
        let mut greedy = vec![Sampler::new(Sampling::Greedy)?; caches.len()];
        let until = Until { stop: self.model.generation.eos.clone(), max_new_tokens: self.max_new_tokens };
        let each = |_, _| ControlFlow::Continue(());
        let tokens = generate::decode_batch(self.model, &mut pass, &mut caches, &mut greedy, &until, each)?;
        tokens.iter().map(|tokens| self.processor.tokenizer().decode(tokens)).collect()
    }
}

/// The answers to a question, under all cells.
struct Answers<'a>(&'a Examiner<'a>, &'a Prepared, &'a str);

impl Work for Answers<'_> {
    type Output = Result<Vec<String>>;

    fn run<T: Real>(self) -> Self::Output {
        let Answers(examiner, prompt, question) = self;
        examiner.try_all::<T>(prompt, question, |_, _| {})
    }
}
