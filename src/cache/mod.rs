//! The KV cache: ragged per layer and KV head, so that an eviction really frees what it evicts.

mod head;

pub use head::HeadCache;

use crate::kernel::HeadView;
use crate::num::Real;

/// Keys and values of every layer and KV head. Spec: D7.1
#[derive(Debug, Clone)]
pub struct Cache<T> {
    /// layers\[layer\]\[KV head\].
    pub layers: Vec<Vec<HeadCache<T>>>,
    /// Rows of the sequence so far, evicted ones included: where the next row stands.
    pub rows: usize,
}

impl<T: Real> Cache<T> {
    /// An empty cache.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        Cache { layers: vec![vec![HeadCache::new(head_dim); kv_heads]; layers], rows: 0 }
    }

    /// What the attention kernel reads of a layer.
    pub fn views(&self, layer: usize) -> Vec<HeadView<'_, T>> {
        self.layers[layer].iter().map(HeadCache::view).collect()
    }

    /// Bytes that keys and values take up.
    pub fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(HeadCache::bytes).sum()
    }

    /// Keeps the entries named and frees the rest: keep\[layer\]\[KV head\] holds indices into that head's entries,
    /// ascending. The kept entries are copied bit for bit, in order (C7.2a). Spec: E7.2
    ///
    /// # Panics
    /// Where `keep` has another shape than the cache, or names an entry that is not there (C7.2b).
    pub fn compact(&mut self, keep: &[Vec<Vec<usize>>]) {
        assert_eq!(keep.len(), self.layers.len(), "C7.2b: a kept set for every layer");
        for (heads, keep) in self.layers.iter_mut().zip(keep) {
            assert_eq!(keep.len(), heads.len(), "C7.2b: a kept set for every KV head");
            for (head, keep) in heads.iter_mut().zip(keep) {
                *head = head.picked(keep);
            }
        }
    }
}
