//! The KV cache. Every KV head of every layer has its own length, so that an eviction frees the memory of evicted
//! entries.

mod head;
mod merge;

pub use head::HeadCache;
pub use merge::Merge;

use crate::kernel::HeadViews;
use crate::num::{Grid, Real};

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

    /// An empty cache that stores its entries in a type. Spec: D7.4
    ///
    /// # Panics
    /// If the container is f64 and the type is not the container's (C7.4a).
    pub fn stored(layers: usize, kv_heads: usize, head_dim: usize, grid: Grid) -> Self {
        assert!(T::NAME == "f32" || grid == Grid::Native, "C7.4a: only a cache of f32 stores another type");
        Cache { layers: vec![vec![HeadCache::stored(head_dim, grid); kv_heads]; layers], rows: 0 }
    }

    /// Makes room for exactly `more` entries in every head.
    pub fn reserve(&mut self, more: usize) {
        self.layers.iter_mut().flatten().for_each(|head| head.reserve(more));
    }

    /// A layer's keys and values, in the layout of the attention kernel.
    pub fn heads(&self, layer: usize) -> HeadViews<'_, T> {
        let heads = &self.layers[layer];
        let mut views = match heads.first().map_or(Grid::Native, HeadCache::stores) {
            Grid::Native => HeadViews::Own(Vec::with_capacity(heads.len())),
            Grid::Bf16 => HeadViews::Bf16(Vec::with_capacity(heads.len())),
            Grid::F16 => HeadViews::F16(Vec::with_capacity(heads.len())),
        };
        heads.iter().for_each(|head| head.view(&mut views));
        views
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
