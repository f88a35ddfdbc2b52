//! The KV cache. Every KV head of every layer has its own length, so that an eviction frees the memory of evicted
//! entries.

mod head;
mod merge;

pub use head::HeadCache;
pub use merge::Merge;

use crate::kernel::HeadViews;
use crate::num::Real;

/// Keys and values of every layer and KV head. Spec: D7.1, C7.1c
#[derive(Debug, Clone)]
pub struct Cache<T> {
    /// layers\[layer\]\[KV head\].
    pub layers: Vec<Vec<HeadCache<T>>>,
    /// The number of rows of the sequence so far, including evicted rows; also the index of the next row.
    /// Spec: D7.3, C7.3a
    pub rows: usize,
}

impl<T: Real> Cache<T> {
    /// An empty cache.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        Cache { layers: vec![vec![HeadCache::new(head_dim); kv_heads]; layers], rows: 0 }
    }

    /// An empty cache that keeps bf16. Spec: D7.4
    ///
    /// # Panics
    /// If the container is f64 (C7.4a).
    pub fn in_bf16(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        assert!(T::NAME == "f32", "C7.4a: only a cache of f32 stores bf16");
        Cache { layers: vec![vec![HeadCache::in_bf16(head_dim); kv_heads]; layers], rows: 0 }
    }

    /// Makes room for exactly `more` entries in every head.
    pub fn reserve(&mut self, more: usize) {
        self.layers.iter_mut().flatten().for_each(|head| head.reserve(more));
    }

    /// A layer's keys and values, in the layout of the attention kernel.
    pub fn heads(&self, layer: usize) -> HeadViews<'_, T> {
        let heads = &self.layers[layer];
        let own: Option<Vec<_>> = heads.iter().map(HeadCache::own).collect();
        let narrow = || heads.iter().map(HeadCache::narrow).collect::<Option<Vec<_>>>();
        match own.map(HeadViews::Own).or_else(|| narrow().map(HeadViews::Bf16)) {
            Some(views) => views,
            None => unreachable!("D7.4: all heads keep the same type"),
        }
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(HeadCache::bytes).sum()
    }

    /// Keeps the named entries and frees the other entries: keep\[layer\]\[KV head\] holds indices into that head's
    /// entries, ascending. The kept entries are copied bit for bit, in order (C7.2a). Spec: E7.2, C7.2c, C7.2d
    ///
    /// # Panics
    /// `keep` has another shape than the cache, or names an entry that does not exist (C7.2b).
    pub fn compact(&mut self, keep: &[Vec<Vec<usize>>]) {
        self.check(keep);
        for (head, keep) in self.layers.iter_mut().flatten().zip(keep.iter().flatten()) {
            *head = head.picked(keep);
        }
    }

    /// A cache of the entries that [`compact`](Self::compact) would keep; this cache does not change. Spec: E7.2, C7.2e
    ///
    /// # Panics
    /// As [`compact`](Self::compact).
    pub fn picked(&self, keep: &[Vec<Vec<usize>>]) -> Self {
        self.check(keep);
        let pick = |(heads, keep): (&Vec<HeadCache<T>>, &Vec<Vec<usize>>)| {
            heads.iter().zip(keep).map(|(head, keep)| head.picked(keep)).collect()
        };
        Cache { layers: self.layers.iter().zip(keep).map(pick).collect(), rows: self.rows }
    }

    fn check(&self, keep: &[Vec<Vec<usize>>]) {
        let ours: Vec<usize> = self.layers.iter().map(Vec::len).collect();
        let theirs: Vec<usize> = keep.iter().map(Vec::len).collect();
        assert_eq!(ours, theirs, "C7.2b: a kept set for every layer and KV head");
    }
}
