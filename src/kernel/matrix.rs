//! A weight matrix as it lies in the checkpoint: f32, bf16 or f16, row-major, read in place.

use crate::num::Real;
use half::{bf16, f16};

/// The stored numbers of a matrix.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
}

/// A view of weights: w: [rows, cols] row-major, in a linear layer [outputs, inputs]. Spec: D3.2
#[derive(Debug, Clone, Copy)]
pub struct MatrixView<'a> {
    /// rows · cols numbers.
    pub values: Values<'a>,
    /// Number of rows (outputs).
    pub rows: usize,
    /// Number of columns (inputs).
    pub cols: usize,
}

impl<'a> MatrixView<'a> {
    /// A view of f32 numbers, for tests and callers without a checkpoint.
    ///
    /// # Panics
    /// Unless `values` holds rows · cols numbers.
    pub fn f32(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "D3.2: a matrix holds rows · cols numbers");
        MatrixView { values: Values::F32(values), rows, cols }
    }

    /// Row `i`, widened exactly: yields `cols` numbers.
    ///
    /// # Panics
    /// Where the row is out of range.
    #[inline(always)]
    pub fn with_row<T: Real, R>(&self, i: usize, f: impl RowReader<T, R>) -> R {
        let range = i * self.cols..(i + 1) * self.cols;
        match self.values {
            Values::F32(v) => f.read(v[range].iter().map(|&v| T::of_f32(v))),
            Values::Bf16(v) => f.read(v[range].iter().map(|v| T::of_f32(f32::from_bits((v.to_bits() as u32) << 16)))),
            Values::F16(v) => f.read(v[range].iter().map(|v| T::of_f32(v.to_f32()))),
        }
    }

    /// Row `i`, widened exactly into `out`: [cols].
    pub fn row_into<T: Real>(&self, i: usize, out: &mut [T]) {
        struct Copy<'o, T>(&'o mut [T]);
        impl<T: Real> RowReader<T, ()> for Copy<'_, T> {
            #[inline(always)]
            fn read(self, row: impl Iterator<Item = T>) {
                self.0.iter_mut().zip(row).for_each(|(o, v)| *o = v);
            }
        }
        self.with_row(i, Copy(out))
    }
}

/// What a caller does with a widened row; a trait because closures cannot be generic over the iterator.
pub trait RowReader<T, R> {
    /// Consumes the row.
    fn read(self, row: impl Iterator<Item = T>) -> R;
}
