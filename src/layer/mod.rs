//! Layers: weights joined to kernels.

mod linear;
mod mlp;

pub use linear::Linear;
pub use mlp::{GatedMlp, Mlp};
