//! Ways: computations that differ in what they round and in which order they add, and are all honest.

/// Which of several honest ways a pass computes. The default is the canonical one. Spec: D10.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// Attention as one kernel: scores are not stored, the unnormalised weights are, and the mix is divided (R10.3).
    pub fused: bool,
    /// Linear layers add their products one by one, from the first input to the last: the longest chain there is.
    pub in_order: bool,
    /// A linear layer's product is stored before its bias is added, where others store once (R10.6).
    pub bias_apart: bool,
}
