//! How a checkpoint stores the projections to queries, keys and values.

/// How the three projections are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// A matrix each.
    Apart,
    /// One matrix: for each KV head the rows of its query heads, then of its key, then of its value. Spec: E6.13
    Grouped,
}
