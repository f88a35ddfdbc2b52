//! The types a GPU stores: rounding to nearest even onto the numbers of bf16 or f16. Spec: D2.8

use super::Real;
use half::{bf16, f16};

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
    /// The value a store of `x` leaves behind. Spec: R2.8, C2.8a, C2.8b
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
            Grid::Bf16 => T::of_f32(bf16::from_f32(x.to_f32()).to_f32()),
            Grid::F16 => T::of_f32(f16::from_f32(x.to_f32()).to_f32()),
        }
    }

    /// Stores a whole slice.
    pub fn round_all<T: Real>(self, x: &mut [T]) {
        if self != Grid::Native {
            x.iter_mut().for_each(|v| *v = self.round(*v));
        }
    }
}
