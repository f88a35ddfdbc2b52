//! Pairs of bf16: one instruction multiplies and adds both, in the canonical order, at twice the speed. It takes subnormal
//! numbers for zeros and makes none, so it is used only where there can be none: the bits are always those of E2.4.
//! Spec: D3.3

use super::simd::{Isa, Registers, vectorize};
use super::vector::{Kernel, Vector};
use crate::num::{LANES, Real};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Whether this CPU has the instruction, the set in use may have it, and it does what the definition says.
pub fn serve() -> bool {
    static RIGHT: OnceLock<bool> = OnceLock::new();
    Isa::current() == Isa::Avx512 && f32::paired_available() && *RIGHT.get_or_init(is_right)
}

/// Whether every number is a bf16, as all are that a pass in bf16 stores.
pub fn hold(x: &[f32]) -> bool {
    x.par_chunks(1 << 14).all(|x| x.iter().fold(0, |bits, v| bits | v.to_bits()) & 0xffff == 0)
}

/// The smallest biased exponent in a panel of pairs, zeros left out; 0 where a number is subnormal, infinite or NaN. Spec: C3.3d
pub fn exponent<T: Real>(panel: &[T]) -> u32 {
    vectorize(
        #[inline(always)]
        || smallest(bytemuck::cast_slice(panel)),
    )
}

#[inline(always)]
fn smallest(panel: &[u16]) -> u32 {
    const MAX: u16 = u16::MAX;
    let (mut least, mut most) = ([MAX; 2 * LANES], [0u16; 2 * LANES]);
    for numbers in panel.as_chunks::<{ 2 * LANES }>().0 {
        for j in 0..2 * LANES {
            let size = numbers[j] & 0x7fff;
            least[j] = least[j].min(size.wrapping_sub(1)); // a zero is larger than any
            most[j] = most[j].max(size);
        }
    }
    let (least, most) = (least.into_iter().fold(MAX, u16::min), most.into_iter().fold(0, u16::max));
    match (least, most) {
        (_, 0x7f80..) => 0,
        (MAX, _) => 0xff,
        _ => u32::from(least + 1) >> 7,
    }
}

/// Whether every product and every sum of such is 0 or normal: all are multiples of 2^(x + w − 2·(127 + 7)). Spec: C3.3d
pub fn are_normal(x: u32, w: u32) -> bool {
    x > 0 && w > 0 && x + w >= 2 * (127 + 7) - 126
}

/// Holds the instruction against the definition, on numbers of mixed sizes whose sums round and cancel.
fn is_right() -> bool {
    let mut right = false;
    f32::run_paired(Against(&mut right));
    right
}

struct Against<'a>(&'a mut bool);

impl Kernel<f32> for Against<'_> {
    #[inline(always)]
    fn run<V: Vector<Number = f32>, const R: usize, const O: usize>(self) {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut numbers = || {
            let mut pairs = [0f32; LANES];
            for pair in &mut pairs {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Two bf16 of any sign and significand, with exponents of 2⁻⁸ to 2⁷; now and then a zero.
                let bits = ((state >> 32) as u32 & 0x87ff_87ff) + 0x3b80_3b80;
                *pair = f32::from_bits(if state >> 60 == 0 { bits & 0xffff } else { bits });
            }
            V::load(&pairs)
        };
        *self.0 = true;
        for _ in 0..256 {
            let (mut fast, mut slow) = (V::zero(), V::zero());
            for _ in 0..16 {
                let (x, w) = (numbers(), numbers());
                (fast, slow) = (x.fma(w, fast), x.fma_apart(w, slow));
            }
            let (mut a, mut b) = ([0f32; LANES], [0f32; LANES]);
            fast.store(&mut a);
            slow.store(&mut b);
            *self.0 &= V::PAIRED && a.map(f32::to_bits) == b.map(f32::to_bits);
        }
    }
}
