//! What the compression needs to see of a prefill: the queries of the rows that a window may use, and, for the methods
//! that let every query vote, the attention each entry received.

use ndarray::{Array2, Array3};

/// What one layer showed.
#[derive(Debug, Clone)]
pub struct LayerObserved<T> {
    /// Queries after rotary of the rows observed: [H, w, d_h].
    pub queries: Array3<T>,
    /// Attention received by each entry, summed over all rows and the query heads of the group: [G, n].
    pub received: Option<Array2<T>>,
}

/// Collects, layer by layer, what a policy asked to see.
#[derive(Debug, Clone)]
pub struct Observer<T> {
    /// The prompt rows whose queries are kept, ascending.
    pub rows: Vec<usize>,
    /// Whether received attention is summed up.
    pub received: bool,
    /// What the layers showed, in order.
    pub layers: Vec<LayerObserved<T>>,
}

impl<T> Observer<T> {
    /// An observer of these rows.
    pub fn new(rows: Vec<usize>, received: bool) -> Self {
        Observer { rows, received, layers: Vec::new() }
    }
}
