//! Records the data of a prefill that an eviction policy needs: the queries of the rows that an observation window may
//! use. For methods in which every query votes, it also records the attention that each entry received.

use crate::num::Real;
use ndarray::{Array3, ArrayView3, s};

/// The data recorded from one layer.
#[derive(Debug, Clone)]
pub struct LayerObserved<T> {
    /// Queries of the observed rows, after rotary: [H, w, d_h].
    pub queries: Array3<T>,
    /// Attention that each entry received, summed over all rows and over the query heads of the group: \[G\]\[n\].
    /// Spec: E3.15
    pub received: Option<Vec<Vec<T>>>,
}

/// Collects the data that a policy requested, layer by layer and chunk by chunk. Spec: C6.11b
#[derive(Debug, Clone)]
pub struct Observer<T> {
    /// The prompt rows whose queries are recorded, ascending.
    pub rows: Vec<usize>,
    /// Whether received attention is summed.
    pub received: bool,
    /// The data recorded from each layer, in order.
    pub layers: Vec<LayerObserved<T>>,
}

impl<T: Real> Observer<T> {
    /// An observer that records the queries of `rows` and, if `received`, the attention that entries receive.
    pub fn new(rows: Vec<usize>, received: bool) -> Self {
        Observer { rows, received, layers: Vec::new() }
    }

    /// Records a layer's queries. q: [H, rows, d_h], the queries of the sequence's rows from row `first` on.
    pub(super) fn see(&mut self, layer: usize, first: usize, q: ArrayView3<'_, T>, kv_heads: usize) {
        let (heads, rows, d) = q.dim();
        if layer == self.layers.len() {
            let queries = Array3::from_elem((heads, self.rows.len(), d), T::ZERO);
            let received = self.received.then(|| vec![Vec::new(); kv_heads]);
            self.layers.push(LayerObserved { queries, received });
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
        Observer { rows: Vec::new(), received: false, layers: Vec::new() }
    }
}
