//! What a matrix unit reads at once. Spec: E3.16

use crate::num::BLOCK;
use half::bf16;

/// Outputs of a tile, and its rows of x.
pub const SIDE: usize = 16;
/// Pairs of inputs that a tile multiplies.
pub const PAIRS: usize = BLOCK / 2;
/// A tile of x: 16 pairs of inputs of 16 rows, [pairs, rows]. The lower half of a number is the first input of a pair.
pub type Tile = [u32; PAIRS * SIDE];

/// A tile of weights: 32 inputs of 16 outputs, [outputs, inputs].
pub type Inputs = [bf16; SIDE * BLOCK];

/// The weights of 16 outputs.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The rows, `stride` numbers apart.
    pub numbers: &'a [bf16],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// Whole blocks of 32 inputs.
    pub blocks: usize,
    /// The inputs after the whole blocks; missing inputs are 0.
    pub last: Option<&'a Inputs>,
}
