//! Answers that are found once and asked for often, by any thread.

use super::lanes::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Answers by key.
pub(super) struct Answers<K, V>(Mutex<BTreeMap<K, V>>);

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Answers(Mutex::default())
    }
}

impl<K: Ord, V: Clone> Answers<K, V> {
    /// The answer for a key, which `find` gives if it is not known yet. Two threads may find the same answer at once.
    pub fn get(&self, key: K, find: impl FnOnce(&K) -> V) -> V {
        let known = lock(&self.0).get(&key).cloned();
        known.unwrap_or_else(|| {
            let found = find(&key);
            lock(&self.0).insert(key, found.clone());
            found
        })
    }
}
