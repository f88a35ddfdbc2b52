//! Work that reaches a limit of the machine and does nothing else. `bench` measures its time; this file reads no clock.

use super::scratch::LINE;
use super::simd::Registers;
use super::vector::{Kernel, Vector};
use rayon::prelude::*;
use std::hint::black_box;

/// Floating-point operations of [`multiply`] in each thread.
pub const OPERATIONS: usize = ROUNDS * 12 * 16 * 2;
const ROUNDS: usize = 1 << 20;

/// Fused multiply-adds on registers, [`OPERATIONS`] on every thread. Returns a number that depends on all of them.
pub fn multiply() -> f32 {
    on_all_threads(|sum| f32::run(Multiply(sum)))
}

/// The same on registers of pairs of bf16, with twice as many operations. Spec: D3.3
pub fn multiply_pairs() -> f32 {
    on_all_threads(|sum| f32::run_paired(Multiply(sum)))
}

fn on_all_threads(work: impl Fn(&mut [f32; 16]) + Sync) -> f32 {
    let sums = (0..rayon::current_num_threads()).into_par_iter().map(|_| {
        let mut sum = [0.0; 16];
        work(&mut sum);
        sum[0]
    });
    sums.sum()
}

struct Multiply<'a>(&'a mut [f32; 16]);

impl Kernel<f32> for Multiply<'_> {
    #[inline(always)]
    fn run<V: Vector<Number = f32>, const R: usize, const O: usize>(self) {
        let (a, b) = (V::splat(black_box(0.999)), V::splat(black_box(0.001)));
        let mut sums = [V::splat(black_box(1.0)); 12];
        for _ in 0..ROUNDS * 16 / V::WIDTH {
            for sum in &mut sums {
                *sum = a.fma(*sum, b);
            }
        }
        for sum in sums {
            sum.store(black_box(&mut *self.0));
        }
    }
}

/// Reads every number of `memory` once; each thread reads its own part. Returns a number that depends on all of them.
pub fn read(memory: &[f32]) -> f32 {
    let parts = memory.par_chunks(1 << 18).map(|part| {
        let mut sum = [0.0; 16];
        f32::run(Read(part, &mut sum));
        sum[0]
    });
    parts.sum()
}

struct Read<'a>(&'a [f32], &'a mut [f32; 16]);

impl Kernel<f32> for Read<'_> {
    #[inline(always)]
    fn run<V: Vector<Number = f32>, const R: usize, const O: usize>(self) {
        let one = V::splat(1.0);
        let mut sums = [V::zero(); 8];
        for part in self.0.chunks_exact(8 * V::WIDTH) {
            for line in (0..8 * V::WIDTH).step_by(LINE / size_of::<f32>()) {
                V::prefetch_far(part, 1024 + line);
            }
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = one.fma(V::load(&part[i * V::WIDTH..][..V::WIDTH]), *sum);
            }
        }
        let all = sums.into_iter().fold(V::zero(), |all, sum| one.fma(sum, all));
        all.store(self.1);
    }
}
