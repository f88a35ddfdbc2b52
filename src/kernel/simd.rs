//! The one file that knows instruction sets.
//!
//! [`vectorize`] compiles a plain loop three times: for AVX-512, for AVX2 with FMA, and for any CPU. A kernel that
//! controls its registers is written over `Vector`, and [`Registers`] runs it on the best set of the CPU. An IEEE fused
//! multiply-add is rounded once on every CPU, so the bits are the same and only the speed differs. Spec: D3.1

#![allow(clippy::needless_range_loop)] // loops over registers read as the equations do, by index

pub use super::isa::Isa;
pub use super::vector::Registers;
use super::vector::{Kernel, Vector};
use crate::num::Lanes;

/// Runs `body`, and the `#[inline(always)]` functions that it calls, compiled for the CPU's instruction set.
#[inline(always)]
#[allow(unsafe_code)]
pub fn vectorize<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        unsafe fn avx2<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        unsafe fn avx512<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        match Isa::current() {
            // SAFETY: `current` returns only sets that `available` found on this CPU.
            Isa::Avx512 => return unsafe { avx512(body) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(body) },
            Isa::Portable => {}
        }
    }
    body()
}

macro_rules! registers {
    ($number:ty, $avx2:ty, $avx512:ty $(, $paired:ty)?) => {
        impl Registers for $number {
            fn tile() -> (usize, usize) {
                if Isa::current() == Isa::Avx512 { (6, 4) } else { (4, 3) }
            }

            #[allow(unsafe_code)]
            fn run(kernel: impl Kernel<Self>) {
                #[cfg(target_arch = "x86_64")]
                {
                    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                    unsafe fn avx2(kernel: impl Kernel<$number>) {
                        kernel.run::<$avx2, 4, 3>()
                    }
                    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                    unsafe fn avx512(kernel: impl Kernel<$number>) {
                        kernel.run::<$avx512, 6, 4>()
                    }
                    match Isa::current() {
                        // SAFETY: `current` returns only sets that `available` found on this CPU.
                        Isa::Avx512 => return unsafe { avx512(kernel) },
                        // SAFETY: as above.
                        Isa::Avx2 => return unsafe { avx2(kernel) },
                        Isa::Portable => {}
                    }
                }
                kernel.run::<[$number; 8], 4, 3>()
            }

            $(
            #[cfg(target_arch = "x86_64")]
            fn paired_available() -> bool {
                Isa::Avx512.available() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            fn run_paired(kernel: impl Kernel<Self>) {
                #[target_feature(enable = "avx512bf16,avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn paired(kernel: impl Kernel<$number>) {
                    kernel.run::<$paired, 6, 4>()
                }
                if !Self::paired_available() {
                    return Self::run(kernel);
                }
                // SAFETY: the CPU was asked just now.
                unsafe { paired(kernel) }
            }
            )?
        }
    };
}
registers!(f32, x86::F32x8, x86::F32x16, x86::Bf16x32);
registers!(f64, x86::F64x4, x86::F64x8);

/// Whether the processor reports AMD as its maker.
#[allow(unsafe_code, unused_unsafe)] // `__cpuid` is safe from Rust 1.94 on
pub(super) fn is_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 CPU has CPUID and its leaf 0.
        let maker = unsafe { std::arch::x86_64::__cpuid(0) };
        [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The registers themselves. Only [`Registers`] names them, after it has checked the CPU: this makes them safe.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::{Lanes, Vector};
    use half::bf16;
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($name:ident($register:ty) of $width:literal $number:ty:
         $zero:ident $splat:ident $load:ident $store:ident $fma:ident; $($more:tt)*) => {
            #[derive(Clone, Copy)]
            pub struct $name($register);

            // SAFETY (of every block here): the set is there, as the module says; slices are cut to the width first.
            impl Vector for $name {
                type Number = $number;
                const WIDTH: usize = $width;
                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: as above.
                    $name(unsafe { $zero() })
                }
                #[inline(always)]
                fn splat(x: $number) -> Self {
                    // SAFETY: as above.
                    $name(unsafe { $splat(x) })
                }
                #[inline(always)]
                fn load(from: &[$number]) -> Self {
                    // SAFETY: as above.
                    $name(unsafe { $load(from[..$width].as_ptr()) })
                }
                #[inline(always)]
                fn store(self, to: &mut [$number]) {
                    // SAFETY: as above.
                    unsafe { $store(to[..$width].as_mut_ptr(), self.0) }
                }
                #[inline(always)]
                fn fma(self, x: Self, sum: Self) -> Self {
                    // SAFETY: as above.
                    $name(unsafe { $fma(self.0, x.0, sum.0) })
                }
                #[inline(always)]
                fn prefetch<S>(from: &[S], at: usize) {
                    // SAFETY: a prefetch never faults, wherever it points.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(at).cast()) }
                }
                #[inline(always)]
                fn prefetch_far<S>(from: &[S], at: usize) {
                    // SAFETY: as above.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_add(at).cast()) }
                }
                $($more)*
            }
        };
    }

    vector! { F32x8(__m256) of 8 f32:
        _mm256_setzero_ps _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_fmadd_ps;
        #[inline(always)]
        fn pairs_f32(from: &[f32]) -> (Self, Self) {
            // SAFETY: as above.
            unsafe {
                let (a, b) = (_mm256_loadu_ps(from[..8].as_ptr()), _mm256_loadu_ps(from[8..16].as_ptr()));
                let (odd, even) = (_mm256_shuffle_ps::<0xDD>(a, b), _mm256_shuffle_ps::<0x88>(a, b));
                let odd = _mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(odd));
                let even = _mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(even));
                (F32x8(_mm256_castpd_ps(odd)), F32x8(_mm256_castpd_ps(even)))
            }
        }
        #[inline(always)]
        fn pairs_bf16(from: &[bf16]) -> (Self, Self) {
            // SAFETY: as above.
            unsafe {
                let v = _mm256_loadu_si256(from[..16].as_ptr().cast());
                let odd = _mm256_and_si256(v, _mm256_set1_epi32(0xFFFF_0000_u32 as i32));
                (F32x8(_mm256_castsi256_ps(odd)), F32x8(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(v))))
            }
        }
        #[inline(always)]
        fn load_bf16(from: &[bf16]) -> Self {
            // SAFETY: as above.
            unsafe {
                let v = _mm256_cvtepu16_epi32(_mm_loadu_si128(from[..8].as_ptr().cast()));
                F32x8(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(v)))
            }
        }
        #[inline(always)]
        fn fold4(last: &[Self; 4], lanes: &[Lanes<f32>; 4]) -> [f32; 4] {
            // SAFETY: as above; every load is of half an array of 16. No closures: they may be compiled without the set.
            unsafe {
                let mut sums = [_mm256_setzero_ps(); 4];
                for i in 0..4 {
                    sums[i] = _mm256_add_ps(_mm256_loadu_ps(lanes[i].as_ptr()), last[i].0);
                }
                let [a, b, c, d] = sums; // lane j + 8 to lane j
                // Lane j + 4 to lane j: a | b, c | d in the two halves of a register.
                let ab = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
                let cd = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(c, d), _mm256_permute2f128_ps::<0x31>(c, d));
                // Lane j + 2 to lane j: lanes 0 and 1 of a, c | b, d.
                let four = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xEE>(ab, cd));
                let sums = _mm256_hadd_ps(four, four); // a, c, a, c | b, d, b, d
                let acbd = _mm_unpacklo_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums)); // a, b, c, d
                let mut out = [0.0; 4];
                _mm_storeu_ps(out.as_mut_ptr(), acbd);
                out
            }
        }
    }
    vector! { F32x16(__m512) of 16 f32:
        _mm512_setzero_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_fmadd_ps;
        #[inline(always)]
        fn pairs_f32(from: &[f32]) -> (Self, Self) {
            // SAFETY: as above.
            unsafe {
                let (a, b) = (_mm512_loadu_ps(from[..16].as_ptr()), _mm512_loadu_ps(from[16..32].as_ptr()));
                let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
                let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                (F32x16(_mm512_permutex2var_ps(a, odd, b)), F32x16(_mm512_permutex2var_ps(a, even, b)))
            }
        }
        #[inline(always)]
        fn pairs_bf16(from: &[bf16]) -> (Self, Self) {
            // SAFETY: as above.
            unsafe {
                let v = _mm512_loadu_si512(from[..32].as_ptr().cast());
                let odd = _mm512_and_si512(v, _mm512_set1_epi32(0xFFFF_0000_u32 as i32));
                (F32x16(_mm512_castsi512_ps(odd)), F32x16(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(v))))
            }
        }
        #[inline(always)]
        fn load_bf16(from: &[bf16]) -> Self {
            // SAFETY: as above.
            unsafe {
                let v = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from[..16].as_ptr().cast()));
                F32x16(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(v)))
            }
        }
        #[inline(always)]
        fn fold4(last: &[Self; 4], _lanes: &[Lanes<f32>; 4]) -> [f32; 4] {
            // SAFETY: as above.
            unsafe {
                let [a, b, c, d] = [last[0].0, last[1].0, last[2].0, last[3].0];
                // Lane j + 8 to lane j, then j + 4: the sums are side by side, in halves, then quarters of a register.
                let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
                let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xEE>(c, d));
                let four = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xDD>(ab, cd));
                // Lane j + 2 to lane j, then j + 1.
                let two = _mm512_add_ps(four, _mm512_permute_ps::<0x4E>(four));
                let one = _mm512_add_ps(two, _mm512_permute_ps::<0xB1>(two));
                let mut out = [0.0; 4];
                let firsts = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), one);
                _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(firsts));
                out
            }
        }
    }
    /// x · w + sum of the odd numbers, then of the even ones, in one instruction.
    ///
    /// # Safety
    /// AVX-512 BF16.
    #[inline(always)]
    unsafe fn fma_pairs(x: __m512, w: __m512, sum: __m512) -> __m512 {
        // SAFETY: the caller's; a register has no more than its bits.
        unsafe {
            let [x, w] = std::mem::transmute::<[__m512; 2], [__m512bh; 2]>([x, w]);
            _mm512_dpbf16_ps(sum, x, w)
        }
    }
    vector! { Bf16x32(__m512) of 16 f32:
        _mm512_setzero_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps fma_pairs;
        const PAIRED: bool = true;
        #[inline(always)]
        fn fma_apart(self, x: Self, sum: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                let (a, b, odd) = (self.0, x.0, _mm512_castsi512_ps(_mm512_set1_epi32(0xFFFF_0000_u32 as i32)));
                let sum = _mm512_fmadd_ps(_mm512_and_ps(a, odd), _mm512_and_ps(b, odd), sum.0);
                let a = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(a)));
                let b = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(b)));
                Bf16x32(_mm512_fmadd_ps(a, b, sum))
            }
        }
        #[inline(always)]
        fn fold4(last: &[Self; 4], lanes: &[Lanes<f32>; 4]) -> [f32; 4] {
            F32x16::fold4(&[F32x16(last[0].0), F32x16(last[1].0), F32x16(last[2].0), F32x16(last[3].0)], lanes)
        }
    }
    vector! { F64x4(__m256d) of 4 f64:
    _mm256_setzero_pd _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_fmadd_pd; }
    vector! { F64x8(__m512d) of 8 f64:
    _mm512_setzero_pd _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_fmadd_pd; }
}
