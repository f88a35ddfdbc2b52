//! Layers: weights joined to the operations of a pass.

mod linear;
mod mlp;
mod norm;
mod qkv;

pub use linear::Linear;
pub use mlp::{AnyMlp, GatedMlp, Mlp};
pub use norm::Norm;
pub use qkv::Qkv;
