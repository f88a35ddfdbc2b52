//! The two containers in which sums are formed. Spec: D2.1

use super::exp;
use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// A container in which sums are formed: `f64` or `f32`, nothing else. Spec: D2.1, C2.1b
///
/// ```
/// use aircache::num::Real;
/// assert_eq!(f32::of(0.1).to_f64(), 0.1f32 as f64);
/// assert_eq!(2f64.mul_add(3.0, 4.0), 10.0);
/// ```
pub trait Real:
    Copy
    + Default
    + PartialEq
    + PartialOrd
    + Debug
    + Display
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + ndarray::ScalarOperand
    + ndarray::LinalgScalar
    + bytemuck::Pod
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// −∞.
    const NEG_INFINITY: Self;
    /// The name of the precision in a bundle: `f64` or `f32`.
    const NAME: &'static str;

    /// The nearest value to `x`.
    fn of(x: f64) -> Self;
    /// The value of a stored weight or pixel, exactly. Spec: C2.1a
    fn of_f32(x: f32) -> Self;
    /// This value, exactly.
    fn to_f64(self) -> f64;
    /// The nearest f32.
    fn to_f32(self) -> f32;
    /// self · a + b, rounded once. Spec: D2.2
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The square root, rounded once.
    fn sqrt(self) -> Self;
    /// e^self by our own polynomial, the same bits on every machine. Spec: E2.7
    fn exp(self) -> Self;
    /// erf(self), the same bits on every machine. Spec: E2.9
    fn erf(self) -> Self;
    /// Whether this is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Chooses from two values, one for each container, the value for this container.
    fn pick<W: ByContainer>(single: W::In<f32>, double: W::In<f64>) -> W::In<Self>;

    /// The larger of the two; `other` if self is NaN.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

/// A kind of value that exists once for each container: see [`Real::pick`].
pub trait ByContainer {
    /// The type for `T`.
    type In<T: Real>;
}

macro_rules! real {
    ($t:ty, $name:literal, $exp:path, $erf:path, ($single:ident, $double:ident) => $picked:ident) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;
            const NAME: &'static str = $name;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn of_f32(x: f32) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                <$t>::mul_add(self, a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
            fn pick<W: ByContainer>($single: W::In<f32>, $double: W::In<f64>) -> W::In<Self> {
                $picked
            }
        }
    };
}
real!(f64, "f64", exp::exp_f64, libm::erf, (_single, double) => double);
real!(f32, "f32", exp::exp_f32, exp::erf_f32, (single, _double) => single);
