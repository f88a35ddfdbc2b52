//! The parts of a policy: who votes, how votes become importances, how layers share, which candidates are always kept,
//! and the readings that the paper leaves open. Plain data: each part has its own file, and text.rs defines how a part
//! is written.

use super::{Decimal, HeadScores};

/// Which rows judge the candidates. Spec: D8.3, D9.1
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Window {
    /// No row: for scores that do not use attention.
    Nobody,
    /// Every query of the prompt, by the model's own causal attention.
    AllQueries,
    /// The last N prompt rows, of any role.
    Last(usize),
    /// The last N of the text that counts (A8.1).
    LastText(usize),
    /// All the text that counts (A8.1).
    AllText,
    /// The last N visual rows.
    LastVisual(usize),
    /// The text rows to which the last text row attends at least α times as much as to the text row it attends to most.
    Elite {
        /// α in 0 … 1.
        alpha: f64,
    },
}

/// How votes become importances. Spec: D9.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// The mean of the window's attention rows.
    Mean,
    /// The sum of the window's attention rows.
    Sum,
    /// The sum of the window's attention rows, divided by the number of the rows that see the key. Spec: E9.9
    ReceivedMean,
    /// The sum of the window's attention rows, each weighted by the attention that the row received. Spec: E9.11
    TextWeighted,
    /// The mean, average-pooled over prompt positions with this odd kernel.
    Pool(usize),
    /// The mean, max-pooled over prompt positions with this odd kernel. Spec: E9.10
    MaxPool(usize),
    /// The pooled mean with this odd kernel, the norms of values and the distance of keys from their mean. Spec: E9.15
    Mix(usize),
    /// A key that is less like the mean key is more important. Spec: E9.12
    KeyDiff,
    /// A shorter key is more important. Spec: E9.13
    KeyNorm,
    /// A longer value is more important. Spec: E9.14
    ValueNorm,
    /// The attention that is expected of queries at this many positions after the prompt, times the norm of the value.
    /// Spec: E9.38
    Expected(u32),
    /// A later candidate is more important; attention does not matter.
    Position,
    /// Pseudo-random numbers from this seed: the baseline that any method must beat.
    Random(u64),
}

/// How the layers share the total. Spec: D9.3
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// No eviction at all, for any retention.
    Full,
    /// The same for every layer.
    Uniform,
    /// Falling linearly, from 2·b̄ − b̄/β in the first layer to b̄/β in the last.
    Pyramid {
        /// β ≥ 1.
        beta: Decimal,
    },
    /// One threshold on the cumulative share of importance, for all layers.
    Prefix,
    /// In proportion to the share of attention entries that reach p times their row's maximum.
    Sparsity {
        /// p in 0 … 1.
        p: f64,
    },
    /// In proportion to e to the entropy of the attention rows. Spec: E9.16
    Entropy,
    /// In proportion to the attention that the window gives to the candidates. Spec: E9.17
    Votes,
    /// In proportion to the scores of a layer's heads, which `split` has. Spec: E9.22
    Heads,
    /// In proportion to strength.
    Strength,
    /// In proportion to skewness.
    Skewness,
    /// In proportion to the mean of strength and skewness.
    Both,
}

impl Budget {
    /// Whether the rule reads the attention rows themselves, not only their sums.
    pub(crate) fn reads_rows(self) -> bool {
        matches!(self, Budget::Sparsity { .. } | Budget::Entropy | Budget::Votes)
    }
}

/// Candidates that are kept before the most important ones. Spec: D9.4
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The first candidates.
    pub first: usize,
    /// The last candidates.
    pub last: usize,
    /// Candidates that are rows of the window.
    pub window: bool,
    /// The share of a layer's budget that goes to the most recent candidates.
    pub recent: Decimal,
    /// Whether these candidates are kept in addition to the budget. Spec: C9.4b
    pub on_top: bool,
}

impl Keep {
    /// No candidates: only importance counts.
    pub const TOP: Keep = Keep { first: 0, last: 0, window: false, recent: Decimal::new(0, 0), on_top: false };
}

/// Which rows may be evicted: the candidates. Spec: D9.5
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Visual rows; text always stays.
    Visual,
    /// Every row of the prompt.
    All,
}

/// Which text counts. Spec: A8.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// Every text row after the last visual row, including the template's tail.
    After,
    /// Every text row.
    All,
    /// As `After`, without the template's tail.
    Question {
        /// Rows of the tail; none until [`super::Policy::with_tail`] sets the number, because it depends on the
        /// template.
        tail: Option<usize>,
    },
}

/// How the attention of several heads is joined. Spec: A8.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// Attention is averaged over all query heads; one kept set for each layer.
    Mean,
    /// As `Mean`, with the union of the query heads' own elite sets as window.
    Union,
    /// Each KV head has its own window and kept set, computed from the query heads of its group.
    Kv,
    /// As `Kv`, with the maximum over the group's query heads instead of their mean. Spec: E9.10
    KvMax,
}

/// How the KV heads of a layer share its budget. Spec: D9.7
#[derive(Debug, Clone, PartialEq)]
pub enum Split {
    /// Every kept set of a layer has the layer's budget.
    Even,
    /// The best pairs of head and candidate stay, and each head has at least this share of the layer's budget.
    Ada {
        /// In 0 … 1.
        floor: Decimal,
    },
    /// Heads share by scores that are known before the prompt. Spec: E9.22
    Heads {
        /// In 0 … 1: this share of the budget is shared evenly.
        floor: Decimal,
        /// The scores of all heads of the model.
        scores: HeadScores,
    },
}

/// What becomes of an evicted entry. Spec: D9.8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evict {
    /// It is gone.
    Drop,
    /// It is merged into the kept candidate that stands nearest. Spec: E7.5
    Nearest,
    /// It is merged into the kept entry whose key is most alike. Spec: E7.5
    Pivot,
    /// As Elastic Cache's public code does it, with the slips of that code: other entries stay, and other entries are
    /// merged. Spec: E9.21
    ElasticCode,
}

/// The keys over which votes are normalised. Spec: A8.4
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// The candidates and the window.
    Elite,
    /// All keys of the prompt.
    All,
    /// All keys up to the query's own: the model's attention.
    Causal,
}

/// Whether a vote sees keys after its own row. Spec: A8.3
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// A vote sees later keys.
    None,
    /// A vote does not see later keys.
    Causal,
}
