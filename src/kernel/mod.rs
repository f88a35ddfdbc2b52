//! Kernels: the arithmetic of the forward pass, each beside its naive twin in [`naive`].
//!
//! A kernel is plain Rust over 16 lanes in the canonical order of [`crate::num`], run through [`simd::vectorize`]. If a
//! number has to stay in a register, the kernel is written over a register type instead, once for all instruction sets
//! (`vector.rs`). Threads split outputs, never sums: the bits do not depend on the number of threads (C3.1b), nor on
//! the instruction set (C3.1a).

mod attention;
mod cached;
mod in_order;
mod isa;
pub mod limits;
mod linear;
mod matrix;
pub mod naive;
mod norm;
mod operands;
mod pairs;
mod panel;
mod patch;
mod pointwise;
pub mod resample;
mod rotary;
mod scratch;
pub mod simd;
mod softmax;
mod stream;
mod tasks;
mod team;
pub mod tiles;
mod vector;

pub use attention::{Stores, Visible, attention, attention_over, scale, tf32, truncated};
pub use cached::{HeadView, HeadViews, key_at, push_key};
pub use in_order::{Start, layer_norm_in_order, linear_in_order, rms_norm_in_order};
pub use linear::{linear, linear_stored, linears};
pub use matrix::{Elements, MatrixView};
pub use norm::{layer_norm, rms_norm};
pub use operands::Operands;
pub use pairs::serve as has_pairs;
pub use patch::patches;
pub use pointwise::{activate, add, gate, scale_columns, store};
pub use rotary::{Angles, Frequencies, Turn, inverse_frequencies};
pub use scratch::{array, recycle};
pub use softmax::softmax;
pub(crate) use softmax::weights;
pub use tasks::Layer;
pub use team::{awake, share};
