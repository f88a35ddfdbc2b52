//! What a matrix unit reads at once. Spec: E3.16

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only the unit reads strips

use crate::kernel::matrix::{Elements, MatrixView};
use crate::num::BLOCK;
use half::slice::HalfFloatSliceExt;

/// Rows of a tile of sums, and its columns.
pub const SIDE: usize = 16;
/// Pairs of inputs that a product of tiles multiplies.
pub const PAIRS: usize = BLOCK / 2;

/// A tile of numbers: 16 rows with 32 inputs each, [rows, inputs], or 16 pairs of inputs of 16 columns, [pairs, columns].
/// The lower half of an entry is the first input of its pair.
pub type Tile = [u32; PAIRS * SIDE];

/// The sums of two groups of 16 rows and two groups of 16 columns: [rows' group, columns' group], each [rows, columns].
pub type Sums = [[[[f32; SIDE]; SIDE]; 2]; 2];

/// Tiles that the unit reads one after the other. Each has 16 rows of 32 numbers.
#[derive(Clone, Copy)]
pub struct Strip<'a> {
    /// The bits of the numbers, from the first one of the first tile on.
    pub numbers: &'a [u16],
    /// Numbers from one row of a tile to the next.
    pub stride: usize,
    /// Numbers from one tile to the next.
    pub step: usize,
}

impl<'a> Strip<'a> {
    /// Tiles that lie one after the other.
    pub fn packed(tiles: &'a [Tile]) -> Self {
        Strip { numbers: bytemuck::cast_slice(tiles), stride: BLOCK, step: SIDE * BLOCK }
    }

    /// Tiles in 16 rows of a matrix with `k` columns, whose first number is the first of `numbers`.
    pub fn in_place(numbers: &'a [u16], k: usize) -> Self {
        Strip { numbers, stride: k, step: BLOCK }
    }

    /// Whether it has this number of tiles.
    pub fn has(&self, tiles: usize) -> bool {
        tiles == 0 || self.numbers.len() >= (tiles - 1) * self.step + (SIDE - 1) * self.stride + BLOCK
    }
}

/// The bits of weights in bf16.
pub fn bits(w: MatrixView<'_>) -> &[u16] {
    match w.values {
        Elements::Bf16(numbers) => numbers.reinterpret_cast(),
        _ => unreachable!("E3.16: the unit reads bf16"),
    }
}
