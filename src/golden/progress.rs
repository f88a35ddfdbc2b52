//! How far a check is, for a bar. No result depends on it.

use super::Bundle;
use crate::stage::Stage;
use std::sync::{Mutex, PoisonError};

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

/// Counts the stages of a candidate, run after run. A run that comes to an earlier stage is the next one.
pub(super) struct Ticks<'a> {
    tell: Tell<'a>,
    stages: Vec<Stage>,
    runs: usize,
    /// The run, and the place of the stage in it.
    at: Mutex<(usize, usize)>,
}

impl<'a> Ticks<'a> {
    /// runs: of the model, and the one that judges.
    pub fn new(tell: Tell<'a>, candidate: &Bundle, runs: usize) -> Ticks<'a> {
        Ticks { tell, stages: Stage::sorted(candidate.names()), runs, at: Mutex::default() }
    }

    /// A run comes to a stage.
    pub fn see(&self, stage: Stage) {
        let Ok(place) = self.stages.binary_search(&stage) else { return };
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if place < at.1 {
            at.0 += 1;
        }
        at.1 = place;
        let all = self.runs * self.stages.len();
        (self.tell)(&Progress { done: (at.0 * self.stages.len() + place).min(all), all, stage: stage.name() });
    }
}
