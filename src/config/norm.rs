//! The two norms by the names that configurations give them.

/// Which norm a layer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `layer_norm`
    Layer,
    /// `rms_norm`
    Rms,
}
