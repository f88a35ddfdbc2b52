//! Rows packed into panels, the layout that a tile of a linear layer reads straight on.
//!
//! P rows become one panel: [16/W sweeps, steps, P, W]. In each block of 32 inputs the odd ones make a step and the even
//! ones the next (D2.3); a sweep holds W of their 16 lanes. What is missing of the last block and the last panel is zeros.
//! Where registers hold pairs of bf16, a block makes one step (D3.3).

use super::pairs;
use super::scratch::Scratch;
use super::simd::Registers;
use super::vector::{Kernel, Stored, Vector};
use crate::num::{BLOCK, LANES, Real};
use rayon::prelude::*;
use std::ops::Range;

/// All rows of x, packed for each range of inputs.
pub struct Panels<T> {
    /// The ranges of inputs.
    pub depths: Vec<Range<usize>>,
    parts: Vec<Part<T>>,
}

/// The panels of a range of inputs.
struct Part<T> {
    numbers: Scratch<T>,
    /// Of each panel of pairs.
    exponents: Vec<u32>,
}

impl<T: Registers> Panels<T> {
    /// x: [m, k] → panels of as many rows as a tile holds.
    pub fn new(x: &[T], m: usize, k: usize, depths: &[Range<usize>], paired: bool) -> Self {
        let (rows, _) = T::tile();
        let part = |depth: &Range<usize>| {
            let panel = rows * numbers(depth, paired);
            let len = m.div_ceil(rows) * panel;
            let mut packed = Scratch::new(len);
            let from = x.par_chunks(8 * rows * k);
            let to = packed.get_mut().par_chunks_mut(8 * panel);
            to.zip(from).for_each(|(to, rows)| run(Pack { rows, k, depth, to }, paired));
            let exponents = match paired {
                true => packed.get().par_chunks(panel.max(1)).map(pairs::exponent).collect(),
                false => Vec::new(),
            };
            Part { numbers: packed, exponents }
        };
        Panels { depths: depths.to_vec(), parts: depths.iter().map(part).collect() }
    }
}

impl<T: Real> Panels<T> {
    /// The panels of a range of inputs.
    pub fn part(&self, depth: usize) -> &[T] {
        self.parts[depth].numbers.get()
    }

    /// The smallest exponent in each of them, where they are of pairs.
    pub fn exponents(&self, depth: usize) -> &[u32] {
        &self.parts[depth].exponents
    }
}

/// Numbers that a row's inputs `depth` take in a panel.
pub fn numbers(depth: &Range<usize>, paired: bool) -> usize {
    depth.len().next_multiple_of(BLOCK) / if paired { 2 } else { 1 }
}

/// Runs a kernel over numbers, or over pairs of bf16.
pub fn run<T: Registers>(kernel: impl Kernel<T>, paired: bool) {
    if paired { T::run_paired(kernel) } else { T::run(kernel) }
}

struct Pack<'a, T> {
    rows: &'a [T],
    k: usize,
    depth: &'a Range<usize>,
    to: &'a mut [T],
}

impl<T: Registers> Kernel<T> for Pack<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(self) {
        pack::<V, T, R>(self.rows, self.k, self.depth, self.to);
    }
}

/// The inputs `depth` of rows [count, k], packed into panels of P rows. Spec: D2.3
#[inline(always)]
pub fn pack<V: Vector, S: Stored, const P: usize>(rows: &[S], k: usize, depth: &Range<usize>, to: &mut [V::Number]) {
    for (to, rows) in to.chunks_exact_mut(P * numbers(depth, V::PAIRED)).zip(rows.chunks(P * k)) {
        for (p, row) in rows.chunks_exact(k).enumerate() {
            let (blocks, rest) = row[depth.clone()].as_chunks::<BLOCK>();
            for (s, block) in blocks.iter().enumerate() {
                put::<V, S, P>(block, s, p, to);
            }
            if !rest.is_empty() {
                let mut block = [S::default(); BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                put::<V, S, P>(&block, blocks.len(), p, to);
            }
        }
        if rows.len() < P * k {
            let missing = rows.len() / k..P;
            to.chunks_exact_mut(P * V::WIDTH)
                .for_each(|step| step[missing.start * V::WIDTH..].fill(V::Number::default()));
        }
    }
}

/// Block s of row p of a panel.
#[inline(always)]
fn put<V: Vector, S: Stored, const P: usize>(block: &[S; BLOCK], s: usize, p: usize, to: &mut [V::Number]) {
    let (w, sweep) = (V::WIDTH, to.len() / (LANES / V::WIDTH));
    if V::PAIRED {
        let to = &mut bytemuck::cast_slice_mut::<_, u16>(to)[(s * P + p) * BLOCK..][..BLOCK];
        return to.iter_mut().zip(block).for_each(|(to, v)| *to = v.bf16_bits());
    }
    for i in 0..LANES / w {
        let (odd, even) = S::pairs::<V>(&block[2 * w * i..][..2 * w]);
        let at = i * sweep + (2 * s * P + p) * w;
        odd.store(&mut to[at..at + w]);
        even.store(&mut to[at + P * w..][..w]);
    }
}
