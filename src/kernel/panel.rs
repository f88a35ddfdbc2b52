//! Rows packed into panels, the layout that a tile of a linear layer reads straight on.
//!
//! P rows become one panel. It holds the ranges of inputs one after the other, each as [16/W sweeps, steps, P, W]: in each
//! block of 32 inputs the odd ones make a step and the even ones the next (D2.3); a sweep holds W of their 16 lanes. What is
//! missing of the last block and the last panel is zeros. Where registers hold pairs of bf16, a block makes one step (D3.3).

use super::pairs;
use super::scratch::Scratch;
use super::simd::Registers;
use super::vector::{Kernel, Stored, Vector};
use crate::num::{BLOCK, LANES};
use rayon::prelude::*;
use std::ops::Range;

/// All rows of x in panels of as many as a tile holds.
pub struct Panels<T> {
    /// The ranges of inputs.
    pub depths: Vec<Range<usize>>,
    numbers: Scratch<T>,
    /// Numbers of a row.
    row: usize,
    /// Of each panel of pairs.
    exponents: Vec<u32>,
}

impl<T: Registers> Panels<T> {
    /// x: [m, k].
    pub fn new(x: &[T], m: usize, k: usize, depths: &[Range<usize>], paired: bool) -> Self {
        let (rows, _) = T::tile();
        let row = numbers(&(0..k), paired);
        let panel = rows * row;
        let mut packed = Scratch::new(m.div_ceil(rows) * panel);
        let from = x.par_chunks(8 * rows * k);
        let to = packed.get_mut().par_chunks_mut(8 * panel);
        to.zip(from).for_each(|(to, rows)| run(Pack { rows, k, depths, to }, paired));
        let exponents = match paired {
            true => packed.get().par_chunks(panel).map(pairs::exponent).collect(),
            false => Vec::new(),
        };
        Panels { depths: depths.to_vec(), numbers: packed, row, exponents }
    }

    /// The inputs `depth` of panel i of R rows, and what lies behind them.
    pub fn at<const R: usize>(&self, i: usize, depth: &Range<usize>, paired: bool) -> (&[T], &[T]) {
        let place = place::<R>(depth, paired);
        self.numbers.get()[R * i * self.row + place.start..].split_at(place.len())
    }

    /// The smallest exponent in panel i, where it is of pairs.
    pub fn exponent(&self, i: usize) -> u32 {
        self.exponents.get(i).copied().unwrap_or(0)
    }
}

/// Numbers that a row's inputs `depth` take in a panel.
pub fn numbers(depth: &Range<usize>, paired: bool) -> usize {
    depth.len().next_multiple_of(BLOCK) / if paired { 2 } else { 1 }
}

/// Where the inputs `depth` lie in a panel of P rows.
pub fn place<const P: usize>(depth: &Range<usize>, paired: bool) -> Range<usize> {
    let start = P * numbers(&(0..depth.start), paired);
    start..start + P * numbers(depth, paired)
}

/// Runs a kernel over numbers, or over pairs of bf16.
pub fn run<T: Registers>(kernel: impl Kernel<T>, paired: bool) {
    if paired { T::run_paired(kernel) } else { T::run(kernel) }
}

struct Pack<'a, T> {
    rows: &'a [T],
    k: usize,
    depths: &'a [Range<usize>],
    to: &'a mut [T],
}

impl<T: Registers> Kernel<T> for Pack<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(self) {
        pack::<V, T, R>(self.rows, self.k, self.depths, self.to);
    }
}

/// Rows [count, k] packed into panels of P. Spec: D2.3
#[inline(always)]
pub fn pack<V: Vector, S: Stored, const P: usize>(rows: &[S], k: usize, depths: &[Range<usize>], to: &mut [V::Number]) {
    for (panel, rows) in to.chunks_exact_mut(P * numbers(&(0..k), V::PAIRED)).zip(rows.chunks(P * k)) {
        for depth in depths {
            let to = &mut panel[place::<P>(depth, V::PAIRED)];
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
        }
        if rows.len() < P * k {
            let missing = rows.len() / k..P;
            panel
                .chunks_exact_mut(P * V::WIDTH)
                .for_each(|step| step[missing.start * V::WIDTH..].fill(V::Number::default()));
        }
    }
}

/// Block s of row p of a range of a panel.
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
