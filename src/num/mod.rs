//! Numbers: the two containers, the storage grids, the canonical sum, exp and its relatives, seeded random numbers.
//!
//! Everything is generic over exactly two containers, `f64` (truth) and `f32` (fast, and emulated GPU types). The type
//! that a GPU stores is a value here, a [`Grid`], not a Rust type: numbers are rounded to the grid where the GPU stores
//! them. Sums inside a kernel stay in the container.
//! Spec: chapter 02.

mod activation;
mod exp;
mod grid;
mod random;
mod real;
mod sum;

pub use activation::{gelu_erf, gelu_tanh, quick_gelu, silu};
pub use grid::Grid;
pub use random::Random;
pub use real::{ByContainer, Real};
pub(crate) use sum::sum_of;
pub use sum::{BLOCK, LANES, Lanes, dot, dot_in_order, fma, fold, pack, sum};
