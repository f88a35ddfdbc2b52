//! What the directions of a stage share. It is held for the next direction, as far as memory allows.

use super::fit::Groups;
use super::lanes::lock;
use super::measure::Errors;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The numbers that a stage's directions are fitted to.
pub(super) struct Numbers {
    pub truth: Vec<f64>,
    pub got: Vec<f64>,
    pub noise: Errors,
    /// The honest way that is nearest to the candidate, and its numbers; none if the truth is nearest.
    pub nearest: Option<(usize, Vec<f64>)>,
}

impl Numbers {
    /// The numbers that are nearest to the candidate's: those of an honest way, or the truth.
    pub fn from(&self) -> &[f64] {
        self.nearest.as_ref().map_or(&self.truth, |(_, nearest)| nearest)
    }
}

/// What is found from a stage's numbers.
pub(super) struct Known {
    /// The numbers that are rounded alike.
    pub groups: Groups,
    /// The honest way that is nearest to the candidate; none if the truth is nearest.
    pub nearest: Option<usize>,
}

/// What is held of each stage.
#[derive(Default)]
pub(super) struct Held {
    known: Store<Known>,
    numbers: Store<Numbers>,
}

/// So many numbers may have groups that are held: 256 MB. Those of later stages are found for each direction.
const KNOWN: usize = 1 << 26;
/// So many numbers are held: 100 MB. Those of later stages are read for each direction.
const NUMBERS: usize = 1 << 22;

impl Held {
    /// What is known of a stage, if it is held.
    pub fn known(&self, stage: &str) -> Option<Arc<Known>> {
        self.known.get(stage)
    }

    /// The numbers of a stage, if they are held.
    pub fn numbers(&self, stage: &str) -> Option<Arc<Numbers>> {
        self.numbers.get(stage)
    }

    /// Holds what is known of a stage, if there is room.
    pub fn keep(&self, stage: &str, known: &Arc<Known>, numbers: &Arc<Numbers>) {
        self.known.keep(stage, known, numbers.got.len(), KNOWN);
        self.numbers.keep(stage, numbers, numbers.got.len(), NUMBERS);
    }
}

/// Values by stage, and the numbers of the stages together.
struct Store<T>(Mutex<(BTreeMap<String, Arc<T>>, usize)>);

impl<T> Default for Store<T> {
    fn default() -> Self {
        Store(Mutex::default())
    }
}

impl<T> Store<T> {
    fn get(&self, stage: &str) -> Option<Arc<T>> {
        lock(&self.0).0.get(stage).cloned()
    }

    fn keep(&self, stage: &str, value: &Arc<T>, count: usize, most: usize) {
        let mut store = lock(&self.0);
        let (values, held) = &mut *store;
        if *held + count <= most && !values.contains_key(stage) {
            values.insert(stage.into(), value.clone());
            *held += count;
        }
    }
}
