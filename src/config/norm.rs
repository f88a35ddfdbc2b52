//! The two kinds of norms and their names in configurations.

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `layer_norm`
    Layer,
    /// `rms_norm`
    Rms,
}
