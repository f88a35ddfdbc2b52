//! Numbers as files store them: read into a container, and written in the type of a bundle. Whole stages at a time, since
//! conversions of single halves take a branch each.

use crate::num::Real;
use crate::weights::Dtype;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Reads the numbers of a stage; none if the type is not F64, F32, BF16 or F16. Exact, but for F64 in an f32 container,
/// which is rounded to nearest. The bytes may start at any address: exports align them to 8, but nothing forces an export to.
pub(super) fn read<T: Real>(dtype: Dtype, bytes: &[u8]) -> Option<Vec<T>> {
    Some(match dtype {
        Dtype::F64 => each(bytes, |b| T::of(f64::from_le_bytes(b))),
        Dtype::F32 => each(bytes, |b| T::of_f32(f32::from_le_bytes(b))),
        // A bf16 is the upper half of an f32.
        Dtype::BF16 => each(bytes, |b| T::of_f32(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
        Dtype::F16 => {
            let halves: Vec<f16> = each(bytes, f16::from_le_bytes);
            halves.to_f32_vec().into_iter().map(T::of_f32).collect()
        }
        _ => return None,
    })
}

/// Reads all numbers of N bytes each.
pub(super) fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

/// Numbers of N bytes each, one after the other.
fn stored<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    numbers.collect::<Vec<_>>().into_flattened()
}

/// The bytes of numbers that are already rounded to a type: F32, BF16 or F16.
pub(super) fn bytes(dtype: Dtype, values: &[f64]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => stored(values.iter().map(|&v| (v as f32).to_le_bytes())),
        Dtype::BF16 => stored(values.iter().map(|&v| (((v as f32).to_bits() >> 16) as u16).to_le_bytes())),
        _ => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f64_slice(values);
            stored(halves.iter().map(|half| half.to_le_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// Every half.
    fn all() -> impl Iterator<Item = u16> {
        0..=u16::MAX
    }

    #[test]
    fn t1_2_every_half_is_read_and_written_exactly() {
        let file: Vec<u8> = all().flat_map(u16::to_le_bytes).collect();
        let check = |dtype: Dtype, one: &dyn Fn(u16) -> f64| {
            let wide = read::<f64>(dtype, &file[..]).unwrap();
            let narrow = read::<f32>(dtype, &file[..]).unwrap();
            for ((bits, w), n) in all().zip(&wide).zip(&narrow) {
                let v = one(bits);
                assert!(w.to_bits() == v.to_bits() || v.is_nan() && w.is_nan(), "{dtype:?} {bits:04x}: {w}, not {v}");
                assert!(f64::from(*n) == v || v.is_nan() && n.is_nan(), "{dtype:?} {bits:04x}: {n}, not {v}");
            }
            let again = read::<f64>(dtype, &bytes(dtype, &wide)).unwrap();
            assert!(again.iter().zip(&wide).all(|(a, w)| a.to_bits() == w.to_bits() || a.is_nan() && w.is_nan()));
        };
        check(Dtype::BF16, &|bits| bf16::from_bits(bits).to_f64());
        check(Dtype::F16, &|bits| f16::from_bits(bits).to_f64());
    }
}
