//! The evaluation kits.

/// The evaluation kit whose rule is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kit {
    /// lmms-eval.
    LmmsEval,
    /// VLMEvalKit.
    VlmEvalKit,
}
