//! A weight matrix in the checkpoint's own memory: f32, bf16 or f16, row-major, read in place.

use crate::num::{Grid, Real};
use half::{bf16, f16};
use std::ops::Range;

/// The elements of a matrix as they are stored.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
}

/// What happens to a sum at its end: its bias is added, and the result is stored in the grid. Spec: R3.3
pub type End<'a> = (Option<&'a [f32]>, Grid);

/// A view of weights: w: [rows, cols] row-major, in a linear layer [outputs, inputs]. Spec: D3.2
#[derive(Debug, Clone, Copy)]
pub struct MatrixView<'a> {
    /// rows · cols numbers.
    pub values: Elements<'a>,
    /// Number of rows (outputs).
    pub rows: usize,
    /// Number of columns (inputs).
    pub cols: usize,
}

impl<'a> MatrixView<'a> {
    /// A view of f32 numbers, for tests and callers without a checkpoint.
    ///
    /// # Panics
    /// `values` does not hold rows · cols numbers.
    pub fn f32(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "D3.2: a matrix holds rows · cols numbers");
        MatrixView { values: Elements::F32(values), rows, cols }
    }

    /// Some of the rows, in place.
    ///
    /// # Panics
    /// A row is out of range.
    pub fn some(&self, rows: Range<usize>) -> Self {
        let range = rows.start * self.cols..rows.end * self.cols;
        let values = match self.values {
            Elements::F32(v) => Elements::F32(&v[range]),
            Elements::Bf16(v) => Elements::Bf16(&v[range]),
            Elements::F16(v) => Elements::F16(&v[range]),
        };
        MatrixView { values, rows: rows.len(), cols: self.cols }
    }

    /// Row `i`, widened exactly; out: \[cols\].
    ///
    /// # Panics
    /// The row is out of range.
    pub fn row_into<T: Real>(&self, i: usize, out: &mut [T]) {
        let range = i * self.cols..(i + 1) * self.cols;
        match self.values {
            Elements::F32(v) => out.iter_mut().zip(&v[range]).for_each(|(o, &v)| *o = T::of_f32(v)),
            Elements::Bf16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, &v)| *o = T::of_f32(widen_bf16(v))),
            Elements::F16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, &v)| *o = T::of_f32(widen_f16(v))),
        }
    }
}

/// A bf16 is the upper half of an f32.
#[inline(always)]
pub(super) fn widen_bf16(v: bf16) -> f32 {
    f32::from_bits((v.to_bits() as u32) << 16)
}

/// The value of an f16 without branches: the exponent's bias is corrected by a product, which is exact.
#[inline(always)]
pub(super) fn widen_f16(v: f16) -> f32 {
    let bits = v.to_bits() as u32;
    let sign = (bits & 0x8000) << 16;
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | sign | special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d3_2_every_half_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (b, h) = (bf16::from_bits(bits), f16::from_bits(bits));
            assert!(widen_bf16(b).to_bits() == b.to_f32().to_bits() || b.is_nan() && widen_bf16(b).is_nan());
            assert!(widen_f16(h).to_bits() == h.to_f32().to_bits() || h.is_nan() && widen_f16(h).is_nan(), "{bits:x}");
        }
    }
}
