//! Kernels: the arithmetic of the forward pass, each beside its naive twin in [`naive`].
//!
//! Every kernel is plain Rust over `[T; 16]` lanes in the canonical order of [`crate::num`], run through
//! [`simd::vectorize`]. Threads split outputs, never sums: the bits do not depend on how many there are.

mod matrix;
pub mod resample;
pub mod simd;

pub use matrix::{MatrixView, RowReader, Values};
