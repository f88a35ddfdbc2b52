//! Numbers in fewer bits: in a half type, or as integers or fp8 times a scale. Spec: D11.8, D11.21

use crate::num::Grid;

/// The largest absolute values of a matrix.
pub(in crate::golden) struct Sizes {
    whole: f64,
    columns: Vec<f64>,
}

impl Sizes {
    /// Of a row-major matrix whose rows have this many numbers.
    pub fn of(values: &[f64], width: usize) -> Sizes {
        let mut columns = vec![0.0f64; width];
        for row in values.chunks_exact(width.max(1)) {
            columns.iter_mut().zip(row).for_each(|(most, v)| *most = most.max(v.abs()));
        }
        Sizes { whole: columns.iter().copied().fold(0.0, f64::max), columns }
    }
}

/// A row of a matrix in fewer bits.
pub(in crate::golden) type Read = fn(&[f64], &Sizes) -> Vec<f64>;

/// What programs read numbers in. Programs take the largest number for 127, 127.5 or 128 of int8. Spec: D11.21
pub(in crate::golden) const BITS: [(&str, Read); 29] = [
    ("bf16", |row, _| row.iter().map(|v| Grid::Bf16.round(*v)).collect()),
    ("f16 or TF32 (10 bits of mantissa)", |row, _| row.iter().map(|v| Grid::F16.round(*v)).collect()),
    ("int8, a scale for each row", |row, _| in_blocks(row, row.len(), 127.0)),
    ("int8, a scale for each row", |row, _| in_blocks(row, row.len(), 127.5)),
    ("int8, a scale for each row", |row, _| in_blocks(row, row.len(), 128.0)),
    ("int8, a scale and a zero for each row", |row, _| shifted(row, row.len(), 255.0)),
    ("int8, a scale for each column", |row, sizes| {
        row.iter().zip(&sizes.columns).map(|(v, most)| integer(*v, most / 127.0, 127.0)).collect()
    }),
    ("int8, one scale for all", |row, sizes| row.iter().map(|v| integer(*v, sizes.whole / 127.0, 127.0)).collect()),
    ("int8, one scale for all", |row, sizes| row.iter().map(|v| integer(*v, sizes.whole / 127.5, 127.5)).collect()),
    ("int8, one scale for all", |row, sizes| row.iter().map(|v| integer(*v, sizes.whole / 128.0, 128.0)).collect()),
    ("int8, a scale for 32 numbers", |row, _| in_blocks(row, 32, 127.0)),
    ("int8, a scale for 64 numbers", |row, _| in_blocks(row, 64, 127.0)),
    ("int8, a scale for 128 numbers", |row, _| in_blocks(row, 128, 127.0)),
    ("int4, a scale for each row", |row, _| in_blocks(row, row.len(), 7.0)),
    ("int4, a scale for each row", |row, _| in_blocks(row, row.len(), 7.5)),
    ("int4, a scale for each row", |row, _| in_blocks(row, row.len(), 8.0)),
    ("int4, a scale for 32 numbers", |row, _| in_blocks(row, 32, 7.0)),
    ("int4, a scale for 32 numbers", |row, _| in_blocks(row, 32, 8.0)),
    ("int4, a scale for 64 numbers", |row, _| in_blocks(row, 64, 7.0)),
    ("int4, a scale for 128 numbers", |row, _| in_blocks(row, 128, 7.0)),
    ("int4, a scale for 128 numbers", |row, _| in_blocks(row, 128, 8.0)),
    ("int4, a scale and a zero for each row", |row, _| shifted(row, row.len(), 15.0)),
    ("int4, a scale and a zero for 32 numbers", |row, _| shifted(row, 32, 15.0)),
    ("int4, a scale and a zero for 64 numbers", |row, _| shifted(row, 64, 15.0)),
    ("int4, a scale and a zero for 128 numbers", |row, _| shifted(row, 128, 15.0)),
    ("fp8 (e4m3)", |row, _| row.iter().map(|v| e4m3(*v)).collect()),
    ("fp8 (e4m3), a scale for each row", |row, _| in_fp8(row, row.len())),
    ("fp8 (e4m3), a scale for 128 numbers", |row, _| in_fp8(row, 128)),
    ("fp8 (e4m3), one scale for all", |row, sizes| scaled_fp8(row, sizes.whole)),
];

/// The nearest whole multiple of a scale, of −⌈most⌉ to ⌊most⌋.
fn integer(v: f64, scale: f64, most: f64) -> f64 {
    if scale > 0.0 { (v / scale).round().clamp(-most.ceil(), most.floor()) * scale } else { 0.0 }
}

/// Whole multiples of a scale for each block of `size` numbers, whose largest absolute value stands for `most`.
pub(super) fn in_blocks(row: &[f64], size: usize, most: f64) -> Vec<f64> {
    let block = |block: &[f64]| -> Vec<f64> {
        let scale = block.iter().fold(0.0f64, |m, v| m.max(v.abs())) / most;
        block.iter().map(|v| integer(*v, scale, most)).collect()
    };
    row.chunks(size.max(1)).flat_map(block).collect()
}

/// The least number of each block stands for 0, and the largest for `most`; the zero is a whole number.
fn shifted(row: &[f64], size: usize, most: f64) -> Vec<f64> {
    let block = |block: &[f64]| -> Vec<f64> {
        let (low, high) = block.iter().fold((0.0f64, 0.0f64), |m, v| (m.0.min(*v), m.1.max(*v)));
        let scale = (high - low) / most;
        let zero = (-low / scale).round();
        let of =
            |v: &f64| if scale > 0.0 { (((v / scale).round() + zero).clamp(0.0, most) - zero) * scale } else { 0.0 };
        block.iter().map(of).collect()
    };
    row.chunks(size.max(1)).flat_map(block).collect()
}

/// Numbers of fp8 (e4m3) times a scale for each block of `size` numbers.
pub(super) fn in_fp8(values: &[f64], size: usize) -> Vec<f64> {
    let block = |block: &[f64]| scaled_fp8(block, block.iter().fold(0.0, |m, v| m.max(v.abs())));
    values.chunks(size.max(1)).flat_map(block).collect()
}

/// The largest absolute value stands for the largest number of fp8.
fn scaled_fp8(row: &[f64], most: f64) -> Vec<f64> {
    let scale = most / 448.0;
    row.iter().map(|v| if scale > 0.0 { e4m3(v / scale) * scale } else { 0.0 }).collect()
}

/// The nearest number with `bits` of mantissa and at least this exponent; ties to even.
fn nearest(v: f64, bits: i32, least: i32, most: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    let exponent = (v.abs().log2().floor() as i32).max(least);
    let step = f64::from(exponent - bits).exp2();
    ((v / step).round_ties_even() * step).clamp(-most, most)
}

/// The nearest number of fp8 e4m3 (FN).
pub(super) fn e4m3(v: f64) -> f64 {
    nearest(v, 3, -6, 448.0)
}

/// The nearest number of fp8 e5m2.
pub(super) fn e5m2(v: f64) -> f64 {
    nearest(v, 2, -14, 57344.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d11_21_rows_in_fewer_bits() {
        let row = [1.27, -0.5, 0.004, 0.006];
        let of = |v: &f64| (v * 1e9).round() / 1e9;
        let read = |at: usize| BITS[at].1(&row, &Sizes::of(&row, 4)).iter().map(of).collect::<Vec<f64>>();
        assert_eq!(read(2), [1.27, -0.5, 0.0, 0.01], "127 steps of 0.01");
        assert_eq!(read(0)[0], 1.2734375);
        assert_eq!(shifted(&[-1.0, 2.0, 0.25], 3, 15.0).iter().map(of).collect::<Vec<f64>>(), [-1.0, 2.0, 0.2]);
    }

    #[test]
    fn d11_8_numbers_of_fp8() {
        assert_eq!([0.0, 1.0, 1.06, 1.07, 447.0, 1e9, -0.3].map(e4m3), [0.0, 1.0, 1.0, 1.125, 448.0, 448.0, -0.3125]);
        assert_eq!(e4m3(2f64.powi(-9)), 2f64.powi(-9));
        assert_eq!(e4m3(2f64.powi(-10)), 0.0, "the tie goes to the even one");
        assert_eq!([1.1, 1.13, 6e4].map(e5m2), [1.0, 1.25, 57344.0]);
    }
}
