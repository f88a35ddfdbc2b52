//! The types in which a GPU stores numbers: rounding to nearest even onto the numbers of bf16 or f16. Spec: D2.8

use super::Real;

/// The numbers a store can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grid {
    /// Every number of the container: a store changes nothing.
    #[default]
    Native,
    /// bfloat16: 8 bits of exponent, 8 of significand.
    Bf16,
    /// IEEE half precision: 5 bits of exponent, 11 of significand.
    F16,
}

impl Grid {
    /// The value that is stored for `x`. Spec: R2.8, C2.8a, C2.8b
    ///
    /// ```
    /// use aircache::num::Grid;
    /// assert_eq!(Grid::Bf16.round(1.00390625f32), 1.0); // half way: to even
    /// assert_eq!(Grid::Native.round(0.1f64), 0.1);
    /// ```
    #[inline(always)]
    pub fn round<T: Real>(self, x: T) -> T {
        match self {
            Grid::Native => x,
            Grid::Bf16 => T::of_f32(to_bf16(x.to_f32())),
            Grid::F16 => T::of_f32(to_f16(x.to_f32())),
        }
    }

    /// Stores a whole slice.
    #[inline(always)]
    pub fn round_all<T: Real>(self, x: &mut [T]) {
        match self {
            Grid::Native => {}
            Grid::Bf16 => x.iter_mut().for_each(|v| *v = Grid::Bf16.round(*v)),
            Grid::F16 => x.iter_mut().for_each(|v| *v = Grid::F16.round(*v)),
        }
    }
}

/// The nearest bf16, without a branch: a carry out of the lower half rounds the upper half.
#[inline(always)]
fn to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(if x.is_nan() { bits | 0x0040_0000 } else { nearest } & 0xffff_0000)
}

/// The nearest f16, without a branch.
#[inline(always)]
fn to_f16(x: f32) -> f32 {
    let (bits, sign) = (x.abs().to_bits(), x.to_bits() & 0x8000_0000);
    let normal = bits.wrapping_add(0xfff + ((bits >> 13) & 1)) & 0xffff_e000;
    // Below 2⁻¹⁴ f16 has steps of 2⁻²⁴, the same steps as f32 from ½ on.
    let small = (x.abs() + 0.5 - 0.5).to_bits();
    let finite = if x.abs() < 6.103_515_6e-5 { small } else { normal };
    let nearest = if x.abs() >= 65520.0 { 0x7f80_0000 } else { finite };
    f32::from_bits(sign | if x.is_nan() { bits } else { nearest })
}
