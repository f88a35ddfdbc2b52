//! Activations and stores over whole arrays.

use super::simd::vectorize;
use crate::config::Activation;
use crate::num::{Grid, Real, gelu_erf, gelu_tanh, quick_gelu, silu};
use ndarray::Array2;
use rayon::prelude::*;

/// Numbers in one task.
const AT_ONCE: usize = 4096;

/// Stores every element, in place. Spec: R2.8
pub fn store<T: Real>(x: &mut [T], grid: Grid) {
    if grid != Grid::Native {
        x.par_chunks_mut(AT_ONCE).for_each(|x| {
            vectorize(
                #[inline(always)]
                || grid.round_all(x),
            )
        });
    }
}

/// Applies the function to every element, in place; the caller stores the result (R3.6). Spec: E3.6–E3.9
pub fn activate<T: Real>(x: &mut Array2<T>, activation: Activation) {
    match x.as_slice_memory_order_mut() {
        Some(all) => all.par_chunks_mut(AT_ONCE).for_each(|x| {
            vectorize(
                #[inline(always)]
                || each(x, activation),
            )
        }),
        None => x.iter_mut().for_each(|x| each(std::slice::from_mut(x), activation)),
    }
}

#[inline(always)]
fn each<T: Real>(x: &mut [T], activation: Activation) {
    match activation {
        Activation::Silu => x.iter_mut().for_each(|x| *x = silu(*x)),
        Activation::GeluErf => x.iter_mut().for_each(|x| *x = gelu_erf(*x)),
        Activation::GeluTanh => x.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Activation::QuickGelu => x.iter_mut().for_each(|x| *x = quick_gelu(*x)),
        Activation::Relu => x.iter_mut().for_each(|x| *x = x.max(T::ZERO)),
    }
}
