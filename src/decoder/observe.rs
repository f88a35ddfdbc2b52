//! Records the data of a prefill that an eviction policy needs: the queries of the rows that an observation window may
//! use. For methods in which every query votes, it also records the attention that each entry received. For methods that
//! expect later queries, it sums the queries before rotary (foresee.rs).

use crate::num::Real;
use crate::policy::{Future, Moments};
use ndarray::{Array3, ArrayView3, s};

/// The data recorded from one layer.
#[derive(Debug, Clone)]
pub struct LayerObserved<T> {
    /// Queries of the observed rows, after rotary: [H, w, d_h].
    pub queries: Array3<T>,
    /// Attention that each entry received, summed over all rows and over the query heads of the group: \[G\]\[n\].
    /// Spec: E3.15
    pub received: Option<Vec<Vec<T>>>,
    /// The queries that are expected after the prompt, for each number of positions of [`Observer::futures`], when the
    /// prefill is done. Spec: E9.37
    pub futures: Vec<Future<T>>,
}

/// Collects the data that a policy requested, layer by layer and chunk by chunk. Spec: C6.11b
#[derive(Debug, Clone)]
pub struct Observer<T> {
    /// The prompt rows whose queries are recorded, ascending.
    pub rows: Vec<usize>,
    /// Whether received attention is summed.
    pub received: bool,
    /// The numbers of positions after the prompt whose queries a policy expects, ascending; none if no policy does.
    pub futures: Vec<u32>,
    /// The data recorded from each layer, in order.
    pub layers: Vec<LayerObserved<T>>,
    /// The sums of queries before rotary of each layer, while the prompt goes through.
    pub(super) moments: Vec<Moments>,
}

impl<T: Real> Observer<T> {
    /// An observer that records the queries of `rows` and, if `received`, the attention that entries receive.
    pub fn new(rows: Vec<usize>, received: bool) -> Self {
        Observer { rows, received, ..Observer::default() }
    }

    /// The same observer, which also says what to expect at these numbers of positions after the prompt. Spec: E9.37
    pub fn expecting(mut self, futures: impl IntoIterator<Item = u32>) -> Self {
        self.futures = futures.into_iter().collect();
        self.futures.sort_unstable();
        self.futures.dedup();
        self
    }

    /// Adds a layer's queries to its sums. q: [H, rows, d_h], before rotary, the rows of the sequence from row `first` on.
    pub(super) fn sum(&mut self, layer: usize, first: usize, q: ArrayView3<'_, T>) {
        if self.futures.is_empty() {
            return;
        }
        if layer == self.moments.len() {
            self.moments.push(Moments::new(q.shape()[0], q.shape()[2]));
        }
        self.moments[layer].add(first, q);
    }

    /// Records a layer's queries. q: [H, rows, d_h], the queries of the sequence's rows from row `first` on.
    pub(super) fn see(&mut self, layer: usize, first: usize, q: ArrayView3<'_, T>, kv_heads: usize) {
        let (heads, rows, d) = q.dim();
        if layer == self.layers.len() {
            let queries = Array3::from_elem((heads, self.rows.len(), d), T::ZERO);
            let received = self.received.then(|| vec![Vec::new(); kv_heads]);
            self.layers.push(LayerObserved { queries, received, futures: vec![] });
        }
        let seen = &mut self.layers[layer];
        let from = self.rows.partition_point(|&row| row < first);
        for (i, &row) in self.rows.iter().enumerate().skip(from).take_while(|(_, row)| **row < first + rows) {
            seen.queries.slice_mut(s![.., i, ..]).assign(&q.slice(s![.., row - first, ..]));
        }
        for sums in seen.received.iter_mut().flatten() {
            sums.resize(first + rows, T::ZERO);
        }
    }

    /// The sums of the attention that each entry of a layer received, [G][entries so far]; the attention kernel adds to
    /// these sums. None if received attention is not summed.
    pub(super) fn received(&mut self, layer: usize) -> Option<&mut [Vec<T>]> {
        self.layers[layer].received.as_deref_mut()
    }
}

impl<T> Default for Observer<T> {
    /// An observer that records nothing.
    fn default() -> Self {
        Observer { rows: vec![], received: false, futures: vec![], layers: vec![], moments: vec![] }
    }
}
