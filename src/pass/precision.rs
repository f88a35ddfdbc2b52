//! The precision of a run: the container of its sums, and the grid that its stores round to. Spec: T6.1

use crate::num::{Grid, Real};

/// How a pass computes. Spec: T6.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float64 throughout.
    Truth,
    /// float32 throughout.
    #[default]
    Fast,
    /// As an honest GPU in bfloat16: float32 inside kernels, rounded at stores.
    Bf16,
    /// As `Bf16`, in IEEE half precision.
    F16,
    /// float32, whose products read numbers with 10 bits of mantissa. A candidate may declare it; no run computes so.
    /// Spec: T10.1, R10.14
    Tf32,
}

impl Precision {
    /// Every precision that a run can have, the truth first.
    pub const ALL: [Precision; 4] = [Precision::Truth, Precision::Fast, Precision::Bf16, Precision::F16];

    /// The grid that stores round to.
    pub fn grid(self) -> Grid {
        match self {
            Precision::Truth | Precision::Fast | Precision::Tf32 => Grid::Native,
            Precision::Bf16 => Grid::Bf16,
            Precision::F16 => Grid::F16,
        }
    }

    /// The value of the bundle's `precision` key.
    pub fn bundle_name(self) -> &'static str {
        match self {
            Precision::Truth => "f64",
            Precision::Fast => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
            Precision::Tf32 => "tf32",
        }
    }

    /// Does a piece of work in the container of sums: float64 for the truth, float32 for all other precisions.
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Precision::Truth => work.run::<f64>(),
            Precision::Fast | Precision::Bf16 | Precision::F16 | Precision::Tf32 => work.run::<f32>(),
        }
    }
}

/// Work that is written once for both containers; [`Precision::run`] does it in one of them.
///
/// ```
/// use aircache::{num::Real, pass::{Precision, Work}};
/// struct Third;
/// impl Work for Third {
///     type Output = f64;
///     fn run<T: Real>(self) -> f64 {
///         (T::ONE / T::of(3.0)).to_f64()
///     }
/// }
/// assert_eq!(Precision::Truth.run(Third), 1.0 / 3.0);
/// assert_eq!(Precision::Bf16.run(Third), f64::from(1.0f32 / 3.0));
/// ```
pub trait Work {
    /// The result of the work.
    type Output;
    /// Does the work in the container `T`.
    fn run<T: Real>(self) -> Self::Output;
}
