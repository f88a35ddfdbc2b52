//! The activation functions of one number. Spec: E3.6–E3.9

use super::Real;

/// x · σ(x) = x / (1 + e^−x). Spec: E3.6
#[inline(always)]
pub fn silu<T: Real>(x: T) -> T {
    x / (T::ONE + (-x).exp())
}

/// x · σ(1.702 x), CLIP's approximation of GELU. Spec: E3.7
#[inline(always)]
pub fn quick_gelu<T: Real>(x: T) -> T {
    x / (T::ONE + (T::of(-1.702) * x).exp())
}

/// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), computed as x · σ(2u), which is the same function. Spec: E3.8
#[inline(always)]
pub fn gelu_tanh<T: Real>(x: T) -> T {
    let u = T::of(0.797_884_560_802_865_4) * (x + T::of(0.044715) * x * x * x);
    x / (T::ONE + (T::of(-2.0) * u).exp())
}

/// ½ x (1 + erf(x / √2)). Spec: E3.9
#[inline(always)]
pub fn gelu_erf<T: Real>(x: T) -> T {
    T::of(0.5) * x * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
}
