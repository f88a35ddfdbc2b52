//! Weights for measurements, with the shapes and types of a real model. Their numbers are random or left out.

use super::tensors::Float;
use super::{Matrix, Storage};
use crate::num::{Grid, Random};
use half::{bf16, f16};
use rayon::prelude::*;
use std::sync::Arc;

/// The number of 8-byte words that one task fills with random numbers.
const CHUNK: usize = 1 << 16;

impl Matrix {
    /// A matrix of this shape and type without numbers. The matrix's view panics unless the matrix is empty.
    pub(super) fn hollow(rows: usize, cols: usize, stored: Grid) -> Matrix {
        let float = match stored {
            Grid::Native => Float::F32,
            Grid::Bf16 => Float::Bf16,
            Grid::F16 => Float::F16,
        };
        Matrix { storage: Arc::new(Storage::Static(&[])), float, offset: 0, rows, cols }
    }

    /// A matrix of random numbers between ±√(3 / cols), so that a layer keeps the magnitude of its input. The same name
    /// always gives the same numbers.
    pub(super) fn invented(name: &str, rows: usize, cols: usize, stored: Grid) -> Matrix {
        let hollow = Matrix::hollow(rows, cols, stored);
        let float = hollow.float;
        let seed =
            name.bytes().fold(0x9e37_79b9_7f4a_7c15, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let size = (3.0 / cols.max(1) as f32).sqrt();
        let mut words = vec![0u64; hollow.bytes().div_ceil(8)];
        words.par_chunks_mut(CHUNK).enumerate().for_each(|(i, words)| {
            let mut random = Random::new(seed ^ (i as u64 + 1).wrapping_mul(0xd129_42f4_c0a6_3d5b));
            let mut number = || ((random.bits() >> 40) as f32 / 8_388_608.0 - 1.0) * size;
            match float {
                Float::F32 => bytemuck::cast_slice_mut::<u64, f32>(words).fill_with(number),
                Float::Bf16 => bytemuck::cast_slice_mut(words).fill_with(|| bf16::from_f32(number()).to_bits()),
                Float::F16 => bytemuck::cast_slice_mut(words).fill_with(|| f16::from_f32(number()).to_bits()),
            }
        });
        Matrix { storage: Arc::new(Storage::Owned(words)), ..hollow }
    }
}
