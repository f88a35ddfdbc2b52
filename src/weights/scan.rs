//! A scan of every number of a checkpoint, for `inspect`. Loading a model does not scan.

use super::Checkpoint;
use super::file::TensorInfo;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

impl Checkpoint {
    /// The names of the tensors that hold NaN or ±∞, each with the number of such entries. The function reads the whole
    /// checkpoint.
    pub fn scan(&self) -> Vec<(String, usize)> {
        let tensors: Vec<TensorInfo<'_>> = self.tensors().collect();
        let counts: Vec<usize> = tensors.par_iter().map(not_finite).collect();
        let named = tensors.iter().zip(counts).filter(|(_, count)| *count > 0);
        named.map(|(t, count)| (t.name.to_string(), count)).collect()
    }
}

/// The number of entries that are not finite; 0 for types other than F64, F32, BF16 and F16.
fn not_finite(t: &TensorInfo<'_>) -> usize {
    fn count<const N: usize>(bytes: &[u8], finite: impl Fn([u8; N]) -> bool) -> usize {
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers.iter().filter(|number| !finite(**number)).count()
    }
    match t.dtype {
        Dtype::F64 => count(t.data, |b| f64::from_le_bytes(b).is_finite()),
        Dtype::F32 => count(t.data, |b| f32::from_le_bytes(b).is_finite()),
        Dtype::BF16 => count(t.data, |b| bf16::from_le_bytes(b).is_finite()),
        Dtype::F16 => count(t.data, |b| f16::from_le_bytes(b).is_finite()),
        _ => 0,
    }
}
