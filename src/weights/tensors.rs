//! A tensor as the matrix or vector that a model needs, with checks of the tensor's shape and type.

use super::file::TensorInfo;
use super::{Checkpoint, Storage};
use crate::error::{Error, Result, ensure};
use crate::kernel::{Elements, MatrixView};
use half::slice::HalfBitsSliceExt;
use safetensors::Dtype;
use std::ops::Range;
use std::sync::Arc;

/// The formats that the forward pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Float {
    F32,
    Bf16,
    F16,
}

/// The weights of a layer, in place in the checkpoint: w: [rows, cols], row-major. A clone is cheap; a matrix keeps the
/// file mapped. Spec: D3.2
#[derive(Debug, Clone)]
pub struct Matrix {
    pub(super) storage: Arc<Storage>,
    pub(super) float: Float,
    /// Offset of the first byte in the storage; a multiple of the size of a number.
    pub(super) offset: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Matrix {
    /// A matrix of f32 numbers that are not in a checkpoint.
    ///
    /// # Panics
    /// If `values` does not hold rows · cols numbers.
    pub fn of_f32(values: &[f32], rows: usize, cols: usize) -> Matrix {
        assert_eq!(values.len(), rows * cols, "D3.2: a matrix holds rows · cols numbers");
        let storage = Arc::new(Storage::copy(bytemuck::cast_slice(values)));
        Matrix { storage, float: Float::F32, offset: 0, rows, cols }
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The storage type of the numbers.
    pub fn dtype(&self) -> Dtype {
        match self.float {
            Float::F32 => Dtype::F32,
            Float::Bf16 => Dtype::BF16,
            Float::F16 => Dtype::F16,
        }
    }

    /// Bytes of all numbers.
    pub fn bytes(&self) -> usize {
        self.rows * self.cols * self.size()
    }

    /// Whether both matrices are the same numbers at the same place.
    pub fn is(&self, other: &Matrix) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage) && self.offset == other.offset
    }

    /// A view of the numbers in place.
    pub fn view(&self) -> MatrixView<'_> {
        let bytes = &self.storage.bytes()[self.offset..self.offset + self.bytes()];
        let values = match self.float {
            Float::F32 => Elements::F32(bytemuck::cast_slice(bytes)),
            Float::Bf16 => Elements::Bf16(bytemuck::cast_slice::<u8, u16>(bytes).reinterpret_cast()),
            Float::F16 => Elements::F16(bytemuck::cast_slice::<u8, u16>(bytes).reinterpret_cast()),
        };
        MatrixView { values, rows: self.rows, cols: self.cols }
    }

    /// The rows in this range, in place.
    ///
    /// # Panics
    /// If the range is not within the rows.
    pub fn slice_rows(&self, range: Range<usize>) -> Matrix {
        assert!(range.start <= range.end && range.end <= self.rows, "D3.2: rows {range:?} of {}", self.rows);
        let offset = self.offset + range.start * self.cols * self.size();
        Matrix { offset, rows: range.len(), ..self.clone() }
    }

    /// Bytes of one number.
    fn size(&self) -> usize {
        self.dtype().bitsize() / 8
    }
}

impl Checkpoint {
    /// The tensor with the first of these names that the checkpoint holds, as a matrix [rows, cols].
    ///
    /// # Errors
    /// There is no tensor with one of these names, its shape differs, or its type is not F32, BF16 or F16.
    pub fn matrix(&self, names: &[String], rows: usize, cols: usize) -> Result<Matrix> {
        self.reshaped(names, &[rows, cols], rows, cols)
    }

    /// A tensor of this shape as a matrix [rows, cols]. The order of the numbers stays the same.
    pub(super) fn reshaped(&self, names: &[String], shape: &[usize], rows: usize, cols: usize) -> Result<Matrix> {
        let (info, storage, float) = self.checked(names, shape)?;
        let (storage, offset) = match info.is_aligned() {
            true => (storage.clone(), info.offset),
            false => (Arc::new(Storage::copy(info.data)), 0),
        };
        Ok(Matrix { storage, float, offset, rows, cols })
    }

    /// A tensor with checked shape and type, the storage that holds the tensor, and the type.
    pub(super) fn checked(&self, names: &[String], shape: &[usize]) -> Result<(TensorInfo<'_>, &Arc<Storage>, Float)> {
        let (info, storage) = self.ask(names)?;
        let float = float(&info)?;
        let expected = || format!("shape {shape:?}, as config.json says");
        ensure!(info.shape == shape, at(&info), expected(), format!("shape {:?}", info.shape));
        Ok((info, storage, float))
    }
}

fn at(info: &TensorInfo<'_>) -> String {
    format!("{}: {}", info.file, info.name)
}

fn float(info: &TensorInfo<'_>) -> Result<Float> {
    match info.dtype {
        Dtype::F32 => Ok(Float::F32),
        Dtype::BF16 => Ok(Float::Bf16),
        Dtype::F16 => Ok(Float::F16),
        other => Err(Error::new(at(info), "dtype F32, BF16 or F16", other)
            .remedy("load the model in transformers in one of these types and save it again")),
    }
}
