//! Pairs of bf16: one instruction multiplies and adds both numbers of a pair in the canonical order. On some CPUs
//! this doubles the rate.
//!
//! The instruction reads subnormal numbers as zeros and never writes a subnormal number. It is therefore used only if
//! no number, product or sum can be subnormal: the bits are always those of E2.4. Spec: D3.3

use super::simd::{Isa, Registers, is_amd, vectorize};
use super::team::share;
use super::vector::{Kernel, Vector};
use crate::num::{LANES, Random, Real};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Whether kernels use the instruction: AVX-512 is in use, the CPU has the instruction, AMD made the CPU, and the
/// instruction's results equal the definition.
///
/// On AMD's CPUs the instruction replaces two multiply-adds in the time of one (measured on Zen 4). On a Xeon with AMX
/// the instruction took 1.4 times as long as two multiply-adds. No other maker's CPUs were measured; they use
/// multiply-adds. The bits are the same. Spec: D3.3, C3.3e
pub fn serve() -> bool {
    /// The answer for this CPU cannot change: it is kept, so that the check runs once and not in every product.
    static SERVES: OnceLock<bool> = OnceLock::new();
    let serves = || f32::paired_available() && is_amd() && is_right();
    Isa::current() == Isa::Avx512 && *SERVES.get_or_init(serves)
}

/// Whether every number is a bf16. In a pass in bf16 all stored numbers are.
pub fn hold(x: &[f32]) -> bool {
    let all = AtomicU32::new(0);
    share(x.chunks(1 << 16), |x| {
        all.fetch_or(x.iter().fold(0, |bits, v| bits | v.to_bits()), Relaxed);
    });
    all.into_inner() & 0xffff == 0
}

/// The smallest biased exponent in a panel of pairs, without zeros; 0 if a number is subnormal, infinite or NaN.
/// Spec: C3.3d
pub fn exponent<T: Real>(panel: &[T]) -> u32 {
    vectorize(
        #[inline(always)]
        || smallest(bytemuck::cast_slice(panel)),
    )
}

/// As [`exponent`], of the bits of bf16, for a caller that is compiled for the instruction set.
#[inline(always)]
pub fn smallest(panel: &[u16]) -> u32 {
    const MAX: u16 = u16::MAX;
    let (mut least, mut most) = ([MAX; 2 * LANES], [0u16; 2 * LANES]);
    let (whole, rest) = panel.as_chunks::<{ 2 * LANES }>();
    for numbers in whole {
        for j in 0..2 * LANES {
            let size = numbers[j] & 0x7fff;
            least[j] = least[j].min(size.wrapping_sub(1)); // 0 wraps to the largest, so that zeros do not count
            most[j] = most[j].max(size);
        }
    }
    // A separate loop: one loop over both would keep the lanes in memory.
    for (j, number) in rest.iter().enumerate() {
        let size = number & 0x7fff;
        least[j] = least[j].min(size.wrapping_sub(1));
        most[j] = most[j].max(size);
    }
    let (least, most) = (least.into_iter().fold(MAX, u16::min), most.into_iter().fold(0, u16::max));
    match (least, most) {
        (_, 0x7f80..) => 0,
        (MAX, _) => 0xff,
        _ => u32::from(least + 1) >> 7,
    }
}

/// Whether every product and every sum of products is 0 or normal. x, w: the smallest exponents of both panels; all
/// products are multiples of 2^(x + w − 2·(127 + 7)). Spec: C3.3d
pub fn are_normal(x: u32, w: u32) -> bool {
    x > 0 && w > 0 && x + w >= 2 * (127 + 7) - 126
}

/// Whether the instruction gives the bits of two multiply-adds, on numbers of mixed sizes whose sums round and cancel.
fn is_right() -> bool {
    let mut right = false;
    f32::run_paired(Against(&mut right));
    right
}

struct Against<'a>(&'a mut bool);

impl Kernel<f32> for Against<'_> {
    #[inline(always)]
    fn run<V: Vector<Number = f32>, const R: usize, const O: usize>(self) {
        let mut random = Random::new(0);
        let mut numbers = || {
            let mut pairs = [0f32; LANES];
            for pair in &mut pairs {
                // Two bf16 of any sign and significand, with exponents of 2⁻⁸ to 2⁷; some of them are zero.
                let drawn = random.bits();
                let bits = (drawn as u32 & 0x87ff_87ff) + 0x3b80_3b80;
                *pair = f32::from_bits(if drawn >> 60 == 0 { bits & 0xffff } else { bits });
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

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn panel(numbers: &[f32]) -> Vec<f32> {
        let mut all = [bf16::ZERO; 32];
        all.iter_mut().zip(numbers).for_each(|(to, &v)| *to = bf16::from_f32(v));
        all.chunks_exact(2)
            .map(|pair| f32::from_bits(u32::from(pair[1].to_bits()) << 16 | u32::from(pair[0].to_bits())))
            .collect()
    }

    #[test]
    fn d3_3_worked_example() {
        let (x, w) = (exponent(&panel(&[-(2f32.powi(-100)), 0.0, 3.0])), exponent(&panel(&[0.0, 1.0, 2f32.powi(-26)])));
        assert_eq!((x, w), (27, 101));
        assert_eq!(smallest(&[0x4000, 0x0080, 0]), 1); // fewer numbers than a register has
        assert!(!are_normal(x, w) && are_normal(41, 101) && !are_normal(0, 254));
    }

    #[test]
    fn c3_3d_what_the_instruction_would_lose_has_no_exponent() {
        for bad in [f32::INFINITY, f32::NAN, 2f32.powi(-127), -(2f32.powi(-133))] {
            assert_eq!(exponent(&panel(&[1.0, bad])), 0, "{bad}");
        }
        assert_eq!(exponent(&panel(&[])), 255); // nothing but zeros: any product is 0
    }

    /// C3.3e, and that the comparison can fail: registers that are no pairs do not pass it.
    #[test]
    fn c3_3e_the_instruction_is_held_against_the_definition() {
        let mut right = true;
        f32::run(Against(&mut right));
        assert!(!right);
        assert!(is_right() || !f32::paired_available(), "this CPU's instruction is not the one of D3.3");
    }
}
