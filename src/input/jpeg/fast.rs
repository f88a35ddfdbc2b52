//! The fast DCT that libjpeg offers beside the exact one: five products for eight numbers, cut off in place of rounded.
//!
//! Source: Arai, Agui and Nakajima, "A fast DCT-SQ scheme for images", 1988; the fraction bits are libjpeg's
//! (`JDCT_IFAST`). Spec: D4.18

use std::f64::consts::{PI, SQRT_2};

/// The bits that the scaled table keeps, and those of a sample's 8 · 8 sums.
const KEPT: u32 = 2;

/// A quantisation table times the scale of each coefficient in this DCT.
pub(super) fn scaled(table: &[u16; 64]) -> [i32; 64] {
    let scale = |k: usize| if k == 0 { 1.0 } else { SQRT_2 * (k as f64 * PI / 16.0).cos() };
    std::array::from_fn(|i| {
        let fixed = (scale(i / 8) * scale(i % 8) * 16384.0).round() as i64;
        ((i64::from(table[i]) * fixed + (1 << (13 - KEPT))) >> (14 - KEPT)) as i32
    })
}

/// The product with a constant of eight fraction bits, cut off.
fn times(x: i32, constant: i32) -> i32 {
    (x * constant) >> 8
}

/// One pass over eight numbers.
fn idct(x: [i32; 8]) -> [i32; 8] {
    let (sum, difference, pair) = (x[0] + x[4], x[0] - x[4], x[2] + x[6]);
    let turned = times(x[2] - x[6], 362) - pair; // √2
    let even = [sum + pair, difference + turned, difference - turned, sum - pair];
    let [s, t, u, v] = [x[5] + x[3], x[5] - x[3], x[1] + x[7], x[1] - x[7]];
    let z = times(t + v, 473); // 2 cos π/8
    let o7 = u + s;
    let o6 = times(t, -669) + z - o7; // 2 (cos π/8 + cos 3π/8)
    let o5 = times(u - s, 362) - o6;
    let o4 = times(v, 277) - z + o5; // 2 (cos π/8 − cos 3π/8)
    let [a, b, c, d] = even;
    [a + o7, b + o6, c + o5, d - o4, d + o4, c - o5, b - o6, a - o7]
}

/// The samples of a block: columns first, then rows.
pub(super) fn samples(block: &[i16; 64], table: &[i32; 64]) -> [u8; 64] {
    // The vectorised code has 16 bits for each number.
    let short = |v: i32| i32::from(v as i16);
    let mut passed = [0i32; 64];
    for x in 0..8 {
        let column = std::array::from_fn(|y| short(i32::from(block[8 * y + x]).wrapping_mul(table[8 * y + x])));
        idct(column).into_iter().enumerate().for_each(|(y, v)| passed[8 * y + x] = short(v));
    }
    let mut out = [0; 64];
    for y in 0..8 {
        let row = std::array::from_fn(|x| passed[8 * y + x]);
        for (x, v) in idct(row).into_iter().enumerate() {
            out[8 * y + x] = ((short(v) >> (KEPT + 3)) + 128).clamp(0, 255) as u8;
        }
    }
    out
}
