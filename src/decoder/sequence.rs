//! A sequence: the decoder's state for one prompt and the tokens generated after the prompt.

use super::{Observer, Pruning};
use crate::cache::Cache;
use crate::num::Real;
use crate::roles::Roles;
use ndarray::Array2;

/// The state of one prompt and its answer. Prefill fills the state, eviction removes entries from its cache, and each
/// decode step appends an entry to its cache.
#[derive(Debug, Clone)]
pub struct Sequence<T> {
    /// Keys and values so far.
    pub cache: Cache<T>,
    /// The data of the prompt that the policies requested.
    pub observer: Observer<T>,
    /// What the policy drops inside prefill. Spec: D9.9
    pub pruning: Pruning<T>,
    /// Logits of the next token: \[V\]; empty before the prefill.
    pub logits: Vec<T>,
    /// The rotary position of the next token: 1 + the largest position of the rows so far. When a prefill starts, it is
    /// set from the positions of all prompt rows.
    pub next_position: i64,
    /// The role of each prompt row.
    pub roles: Roles,
    /// The rows that are added to the prompt's visual rows after the first layers: entry l, [n_v, d], after layer l.
    /// The prefill uses and removes them. Spec: E6.18
    pub deepstack: Vec<Array2<T>>,
}

/// A sequence, and the number of rows of a forward pass that belong to this sequence.
pub type Member<'s, T> = (&'s mut Sequence<T>, usize);

impl<T: Real> Sequence<T> {
    /// A sequence without rows. Its keys and values will be stored in `cache`.
    pub fn new(cache: Cache<T>) -> Self {
        let (observer, pruning, roles) = (Observer::default(), Pruning::NONE, Roles(vec![]));
        Sequence { cache, observer, pruning, logits: vec![], next_position: 0, roles, deepstack: vec![] }
    }

    /// A copy of this sequence that continues from another cache. The observed data is not copied.
    pub fn with_cache(&self, cache: Cache<T>) -> Self {
        let (logits, roles) = (self.logits.clone(), self.roles.clone());
        Sequence { logits, next_position: self.next_position, roles, ..Sequence::new(cache) }
    }
}
