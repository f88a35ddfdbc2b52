//! How far a check is, for a bar. No result depends on it.

use super::Bundle;
use crate::stage::Stage;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far a check is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Steps that are done: stages of one run of the model, or stages that are judged.
    pub done: usize,
    /// All steps.
    pub all: usize,
    /// The stage that comes next.
    pub stage: String,
}

/// What is told of a check's progress, from any thread.
pub(super) type Tell<'a> = &'a (dyn Fn(&Progress) + Sync);

/// Counts the stages of a candidate that runs of the model come to, and those that are judged.
pub(super) struct Ticks<'a> {
    tell: Tell<'a>,
    stages: Vec<Stage>,
    all: usize,
    done: AtomicUsize,
}

impl<'a> Ticks<'a> {
    /// runs: of the model, without those that end after prefill; prefills: those.
    pub fn new(tell: Tell<'a>, candidate: &Bundle, runs: usize, prefills: usize) -> Ticks<'a> {
        let stages = Stage::sorted(candidate.names());
        let computed = |steps: bool| stages.iter().filter(|at| at.is_computed() && at.is_step() == steps).count();
        let all = stages.len() + runs * computed(true) + (runs + prefills) * computed(false);
        Ticks { tell, stages, all, done: AtomicUsize::new(0) }
    }

    /// A run comes to a stage, or a stage is judged.
    pub fn see(&self, stage: Stage) {
        if self.stages.binary_search(&stage).is_ok() {
            let done = self.done.fetch_add(1, Ordering::Relaxed).min(self.all);
            (self.tell)(&Progress { done, all: self.all, stage: stage.name() });
        }
    }
}
