//! A sequence: one prompt, and the tokens generated after it, as the decoder holds it.

use super::Observer;
use crate::cache::Cache;
use crate::num::Real;
use crate::roles::Roles;

/// What is held of one prompt and its answer. Prefill fills it, an eviction thins its cache, each decode step appends to it.
#[derive(Debug, Clone)]
pub struct Sequence<T> {
    /// Keys and values so far.
    pub cache: Cache<T>,
    /// What the policies asked to see of the prompt.
    pub observer: Observer<T>,
    /// Logits of the next token: \[V\]; empty before the prefill.
    pub logits: Vec<T>,
    /// The rotary position of the next token: 1 + the largest of the rows so far; before the prefill, of the prompt's rows.
    pub next_position: i64,
    /// What each row of the prompt is.
    pub roles: Roles,
}

/// A sequence, and how many rows of a forward pass are its own.
pub type Member<'s, T> = (&'s mut Sequence<T>, usize);

impl<T: Real> Sequence<T> {
    /// A sequence without rows, whose keys and values go to `cache`.
    pub fn new(cache: Cache<T>) -> Self {
        Sequence { cache, observer: Observer::default(), logits: vec![], next_position: 0, roles: Roles(vec![]) }
    }

    /// The same sequence, continued from another cache; what was observed stays behind.
    pub fn with_cache(&self, cache: Cache<T>) -> Self {
        let (logits, roles) = (self.logits.clone(), self.roles.clone());
        Sequence { cache, observer: Observer::default(), logits, next_position: self.next_position, roles }
    }
}
