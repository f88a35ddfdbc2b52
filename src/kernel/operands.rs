//! What products read: numbers as they are, or numbers with 10 bits of mantissa, as tensor cores read f32 in TF32. Only
//! measurements of noise and suspects narrow; no run of a model does. Spec: R10.14

use crate::num::Real;
use std::borrow::Cow;

/// How the factors of a product are narrowed before they are multiplied. Spec: R10.14
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operands {
    /// Not at all.
    #[default]
    Whole,
    /// To the nearest number with 10 bits of mantissa, ties to even: cuBLAS converts so. [`tf32`](super::tf32) has ties away.
    Nearest,
    /// The lower 13 bits are dropped: a tensor core does so with numbers that nobody converted.
    TowardZero,
}

impl Operands {
    /// The number that a product reads.
    ///
    /// ```
    /// use aircache::kernel::Operands::{Nearest, TowardZero};
    /// let ulp = 2f32.powi(-10);
    /// assert_eq!([0.5, 0.75, 1.5].map(|part| Nearest.read(1.0 + part * ulp)), [1.0, 1.0 + ulp, 1.0 + 2.0 * ulp]);
    /// assert_eq!([0.5, 0.75, 1.5].map(|part| TowardZero.read(1.0 + part * ulp)), [1.0, 1.0, 1.0 + ulp]);
    /// ```
    #[inline]
    pub fn read<T: Real>(self, x: T) -> T {
        if self == Operands::Whole {
            return x;
        }
        let x = x.to_f32();
        let bits = x.to_bits();
        let up = if self == Operands::Nearest { 0xFFF + (bits >> 13 & 1) } else { 0 };
        T::of_f32(if x.is_finite() { f32::from_bits((bits + up) & !0x1FFF) } else { x })
    }

    /// The numbers that a product reads.
    pub fn read_all<T: Real>(self, x: &[T]) -> Cow<'_, [T]> {
        match self {
            Operands::Whole => Cow::Borrowed(x),
            _ => x.iter().map(|&x| self.read(x)).collect(),
        }
    }
}
