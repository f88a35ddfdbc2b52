//! Layers: weights joined to kernels.

mod linear;
mod mlp;

pub use linear::{Linear, apply};
pub use mlp::{GatedMlp, Mlp};
