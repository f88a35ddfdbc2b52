//! The four ways to compute: a container and what stores round to. Spec: T6.1

use crate::num::Grid;

/// How a pass computes. Spec: T6.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float64 throughout.
    Truth,
    /// float32 throughout.
    #[default]
    Fast,
    /// What an honest GPU computes in bfloat16: float32 inside kernels, rounded at stores.
    Bf16,
    /// The same in IEEE half precision.
    F16,
}

impl Precision {
    /// The grid that stores round to.
    pub fn grid(self) -> Grid {
        match self {
            Precision::Truth | Precision::Fast => Grid::Native,
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
        }
    }
}
