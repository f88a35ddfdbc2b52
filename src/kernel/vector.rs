//! The few functions that a kernel needs from a register, so that one source serves every instruction set.
//!
//! A register holds W of the 16 lanes of a canonical sum. Lanes stay separate until the final tree, so a kernel reads
//! its numbers 16 / W times, in *sweeps*, each for W of the lanes: no sum's order depends on W. This file has the plain
//! register, `[T; 8]`, which is the reference and serves other architectures; [`super::simd`] has the other registers.

#![allow(clippy::needless_range_loop)] // loops over lanes read as the equations do, by index

use super::matrix::{widen_bf16, widen_f16};
use crate::num::{LANES, Lanes, Real, fold};
use half::{bf16, f16};

/// A register of W lanes. Spec: D2.2, D2.3, E2.4
pub trait Vector: Copy {
    /// The type of a lane.
    type Number: Real;
    /// W: 4, 8 or 16.
    const WIDTH: usize;
    /// Whether a lane holds a pair of bf16, the odd one in its upper half, and `fma` takes the odd products, then the
    /// even ones.
    const PAIRED: bool = false;

    /// All lanes 0.
    fn zero() -> Self;
    /// All lanes x.
    fn splat(x: Self::Number) -> Self;
    /// The first W numbers.
    fn load(from: &[Self::Number]) -> Self;
    /// Writes the W lanes.
    fn store(self, to: &mut [Self::Number]);
    /// self · x + sum in every lane, rounded once.
    fn fma(self, x: Self, sum: Self) -> Self;
    /// The same for pairs for which the instruction for pairs gives wrong results: subnormal or infinite pairs, and
    /// pairs so small that a product may be subnormal (C3.3d).
    #[inline(always)]
    fn fma_apart(self, x: Self, sum: Self) -> Self {
        self.fma(x, sum)
    }
    /// Prefetches the memory around element `at`, which need not exist, into the first-level cache.
    #[inline(always)]
    fn prefetch<S>(_from: &[S], _at: usize) {}
    /// As [`prefetch`](Self::prefetch), into the second-level cache: then the first-level cache keeps the data in use.
    #[inline(always)]
    fn prefetch_far<S>(_from: &[S], _at: usize) {}

    /// The odd elements of 2 W numbers, and the even elements.
    #[inline(always)]
    fn pairs_f32(from: &[f32]) -> (Self, Self) {
        pairs(from, Self::Number::of_f32)
    }
    /// As [`pairs_f32`](Self::pairs_f32), for bf16, which are widened.
    #[inline(always)]
    fn pairs_bf16(from: &[bf16]) -> (Self, Self) {
        pairs(from, |v| Self::Number::of_f32(widen_bf16(v)))
    }
    /// As [`pairs_f32`](Self::pairs_f32), for f16, which are widened.
    #[inline(always)]
    fn pairs_f16(from: &[f16]) -> (Self, Self) {
        pairs(from, |v| Self::Number::of_f32(widen_f16(v)))
    }
    /// The first W numbers of a slice of bf16, widened.
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> Self {
        let mut lanes = [Self::Number::ZERO; LANES];
        let from = &from[..Self::WIDTH];
        for j in 0..Self::WIDTH {
            lanes[j] = Self::Number::of_f32(widen_bf16(from[j]));
        }
        Self::load(&lanes)
    }
    /// Four canonical sums, each by the tree of D2.5: `last` has the last W lanes of each sum, `lanes` the others.
    #[inline(always)]
    fn fold4(last: &[Self; 4], lanes: &[Lanes<Self::Number>; 4]) -> [Self::Number; 4] {
        let mut sums = [Self::Number::ZERO; 4];
        for i in 0..4 {
            let mut lanes = lanes[i];
            last[i].store(&mut lanes[LANES - Self::WIDTH..]);
            sums[i] = fold(lanes);
        }
        sums
    }
}

/// A register of pairs without the instruction for pairs.
#[derive(Clone, Copy)]
pub struct Apart<V>(V);

impl<V: Vector> Vector for Apart<V> {
    type Number = V::Number;
    const WIDTH: usize = V::WIDTH;
    const PAIRED: bool = V::PAIRED;
    #[inline(always)]
    fn zero() -> Self {
        Apart(V::zero())
    }
    #[inline(always)]
    fn splat(x: V::Number) -> Self {
        Apart(V::splat(x))
    }
    #[inline(always)]
    fn load(from: &[V::Number]) -> Self {
        Apart(V::load(from))
    }
    #[inline(always)]
    fn store(self, to: &mut [V::Number]) {
        self.0.store(to);
    }
    #[inline(always)]
    fn fma(self, x: Self, sum: Self) -> Self {
        Apart(self.0.fma_apart(x.0, sum.0))
    }
    #[inline(always)]
    fn prefetch<S>(from: &[S], at: usize) {
        V::prefetch(from, at);
    }
    #[inline(always)]
    fn prefetch_far<S>(from: &[S], at: usize) {
        V::prefetch_far(from, at);
    }
    #[inline(always)]
    fn fold4(last: &[Self; 4], lanes: &[Lanes<V::Number>; 4]) -> [V::Number; 4] {
        V::fold4(&[last[0].0, last[1].0, last[2].0, last[3].0], lanes)
    }
}

/// A kernel over registers. A tile of `R` rows and `O` outputs fills the registers of the instruction set in use. `run`
/// must be `#[inline(always)]`.
pub trait Kernel<T> {
    /// The kernel.
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(self);
}

/// A container, and the registers that the CPU has for it.
pub trait Registers: Real + Element {
    /// Rows and outputs of a tile that fills the registers of the set in use.
    fn tile() -> (usize, usize);
    /// Runs a kernel over the registers of the set in use.
    fn run(kernel: impl Kernel<Self>);
    /// Whether the CPU has registers of pairs of bf16 for this container.
    fn paired_available() -> bool {
        false
    }
    /// Runs a kernel over registers of pairs; over ordinary registers if the CPU has no pairs.
    fn run_paired(kernel: impl Kernel<Self>) {
        Self::run(kernel);
    }
}

/// A type of weights and activations in memory, read in pairs of odd and even elements.
pub trait Element: Copy + Send + Sync + Default {
    /// The odd elements of 2 W numbers, and the even elements, as numbers of the container.
    fn pairs<V: Vector>(from: &[Self]) -> (V, V);
    /// The bits of a number that is a bf16.
    fn bf16_bits(self) -> u16;
}

macro_rules! stored {
    ($($stored:ty: $pairs:expr, $widen:expr;)*) => {$(
        impl Element for $stored {
            #[inline(always)]
            fn pairs<V: Vector>(from: &[Self]) -> (V, V) {
                $pairs(from)
            }
            #[inline(always)]
            fn bf16_bits(self) -> u16 {
                let wide: f32 = $widen(self);
                (wide.to_bits() >> 16) as u16
            }
        }
    )*};
}
stored! {
    f32: V::pairs_f32, |v| v;
    bf16: V::pairs_bf16, widen_bf16;
    f16: V::pairs_f16, widen_f16;
    f64: |from| pairs(from, V::Number::of), |v| v as f32;
}

/// A type in which a cache stores numbers of the container T.
pub trait CacheElement<T>: Copy + Send + Sync {
    /// The first W elements, as numbers of the container.
    fn load<V: Vector<Number = T>>(from: &[Self]) -> V;
    /// One element, as a number of the container.
    fn widen(self) -> T;
}

macro_rules! kept {
    ($($stored:ty, $container:ty: $load:expr, $widen:expr;)*) => {$(
        impl CacheElement<$container> for $stored {
            #[inline(always)]
            fn load<V: Vector<Number = $container>>(from: &[Self]) -> V {
                $load(from)
            }
            #[inline(always)]
            fn widen(self) -> $container {
                $widen(self)
            }
        }
    )*};
}
kept! {
    f32, f32: V::load, |v| v;
    f64, f64: V::load, |v| v;
    bf16, f32: V::load_bf16, widen_bf16;
    f16, f32: load_f16, widen_f16;
}

#[inline(always)]
fn load_f16<V: Vector<Number = f32>>(from: &[f16]) -> V {
    let mut wide = [0.0; LANES];
    let from = &from[..V::WIDTH];
    for j in 0..V::WIDTH {
        wide[j] = widen_f16(from[j]);
    }
    V::load(&wide)
}

#[inline(always)]
fn pairs<S: Copy, V: Vector>(from: &[S], widen: impl Fn(S) -> V::Number) -> (V, V) {
    let (mut odd, mut even) = ([V::Number::ZERO; LANES], [V::Number::ZERO; LANES]);
    let from = &from[..2 * V::WIDTH];
    for j in 0..V::WIDTH {
        odd[j] = widen(from[2 * j + 1]);
        even[j] = widen(from[2 * j]);
    }
    (V::load(&odd), V::load(&even))
}

impl<T: Real> Vector for [T; 8] {
    type Number = T;
    const WIDTH: usize = 8;

    #[inline(always)]
    fn zero() -> Self {
        [T::ZERO; 8]
    }
    #[inline(always)]
    fn splat(x: T) -> Self {
        [x; 8]
    }
    #[inline(always)]
    fn load(from: &[T]) -> Self {
        let mut lanes = [T::ZERO; 8];
        lanes.copy_from_slice(&from[..8]);
        lanes
    }
    #[inline(always)]
    fn store(self, to: &mut [T]) {
        to[..8].copy_from_slice(&self);
    }
    #[inline(always)]
    fn fma(self, x: Self, mut sum: Self) -> Self {
        for j in 0..8 {
            sum[j] = self[j].mul_add(x[j], sum[j]);
        }
        sum
    }
}
