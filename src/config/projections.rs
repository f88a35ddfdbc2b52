//! The three ways in which checkpoints store the projections to queries, keys and values.

/// The storage of the three projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// Three matrices, one for each projection.
    Apart,
    /// One matrix. For each KV head it holds the rows of the group's query heads, then the key, then the value.
    /// Spec: E6.13
    Grouped,
    /// One matrix: the query rows, then the key rows, then the value rows. The MLP's gate and up projections are one
    /// matrix too: the gate rows, then the up rows. Spec: E6.16
    Stacked,
}
