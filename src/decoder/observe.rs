//! What the compression needs to see of a prefill: the queries of the rows that a window may use, and, for the methods
//! that let every query vote, the attention each entry received.

use crate::num::Real;
use ndarray::{Array3, ArrayView3, s};

/// What one layer showed.
#[derive(Debug, Clone)]
pub struct LayerObserved<T> {
    /// Queries after rotary of the rows observed: [H, w, d_h].
    pub queries: Array3<T>,
    /// Attention received by each entry, summed over all rows and the query heads of the group: \[G\]\[n\]. Spec: E3.15
    pub received: Option<Vec<Vec<T>>>,
}

/// Collects, layer by layer and chunk by chunk, what a policy asked to see. Spec: C6.11b
#[derive(Debug, Clone)]
pub struct Observer<T> {
    /// The prompt rows whose queries are kept, ascending.
    pub rows: Vec<usize>,
    /// Whether received attention is summed up.
    pub received: bool,
    /// What the layers showed, in order.
    pub layers: Vec<LayerObserved<T>>,
}

impl<T: Real> Observer<T> {
    /// An observer of these rows.
    pub fn new(rows: Vec<usize>, received: bool) -> Self {
        Observer { rows, received, layers: Vec::new() }
    }

    /// Takes a layer's queries of the sequence's rows from `first` on. q: [H, rows, d_h].
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

    /// The sums to which attention adds what each entry of a layer receives, [G][entries so far], if they are wanted.
    pub(super) fn received(&mut self, layer: usize) -> Option<&mut [Vec<T>]> {
        self.layers[layer].received.as_deref_mut()
    }
}

impl<T> Default for Observer<T> {
    /// An observer that nobody asked for anything.
    fn default() -> Self {
        Observer { rows: Vec::new(), received: false, layers: Vec::new() }
    }
}
