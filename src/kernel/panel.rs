//! Rows packed into panels: the layout that a tile of a linear layer reads from front to back.
//!
//! P rows form a panel. Panels that are packed together are stored as [ranges of inputs, 16/W sweeps, panels, steps, P,
//! W]. In a block of 32 inputs the odd inputs are one step and the even inputs the next (D2.3); a sweep holds W of
//! their 16 lanes. Rows of x are packed panel by panel, the weights of a task all together. Missing rows of the last
//! panel and missing inputs of the last block are zeros. If registers hold pairs of bf16, a block is one step (D3.3).

use super::pairs;
use super::scratch::Scratch;
use super::simd::Registers;
use super::team::share;
use super::vector::{Element, Kernel, Vector};
use crate::num::{BLOCK, LANES};
use std::ops::Range;

/// All rows of x in panels; a panel has the rows of a tile.
pub struct Panels<T> {
    /// The ranges of inputs.
    pub depths: Vec<Range<usize>>,
    numbers: Scratch<T>,
    /// Numbers of a row.
    row: usize,
    /// The smallest exponent of each panel of pairs.
    exponents: Vec<u32>,
}

impl<T: Registers> Panels<T> {
    /// x: [m, k].
    pub fn new(x: &[T], m: usize, k: usize, depths: &[Range<usize>], paired: bool) -> Self {
        let (rows, _) = T::tile();
        let row = numbers(&(0..k), paired);
        let panel = rows * row;
        let mut packed = Scratch::new(m.div_ceil(rows) * panel);
        let to = packed.get_mut().chunks_mut(8 * panel);
        share(to.zip(x.chunks(8 * rows * k)), |(to, rows)| run(Pack { rows, k, depths, to }, paired));
        let mut exponents = vec![0; if paired { m.div_ceil(rows) } else { 0 }];
        share(exponents.iter_mut().zip(packed.get().chunks(panel)), |(least, panel)| *least = pairs::exponent(panel));
        Panels { depths: depths.to_vec(), numbers: packed, row, exponents }
    }

    /// The packed numbers from panel i on; each panel has R rows.
    pub fn from<const R: usize>(&self, i: usize) -> &[T] {
        &self.numbers.get()[R * i * self.row..]
    }

    /// The smallest exponent in panel i, a panel of pairs.
    pub fn exponent(&self, i: usize) -> u32 {
        self.exponents[i]
    }
}

/// The number of numbers in a panel for the inputs `depth` of one row, in all sweeps together.
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
    depths: &'a [Range<usize>],
    to: &'a mut [T],
}

impl<T: Registers> Kernel<T> for Pack<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Number = T>, const R: usize, const O: usize>(self) {
        pack::<V, T, R>(self.rows, self.k, self.depths, 1, self.to);
    }
}

/// Packs rows [count, k] into panels of P rows, `together` panels at a time. Spec: D2.3
#[inline(always)]
pub fn pack<V: Vector, S: Element, const P: usize>(
    rows: &[S],
    k: usize,
    depths: &[Range<usize>],
    together: usize,
    to: &mut [V::Number],
) {
    let (group, sweeps) = (together * P * numbers(&(0..k), V::PAIRED), LANES / V::WIDTH);
    for (mut to, rows) in to.chunks_exact_mut(group).zip(rows.chunks(together * P * k)) {
        for depth in depths {
            let sweep = P * numbers(depth, V::PAIRED) / sweeps; // of a panel
            let (here, after) = to.split_at_mut(sweeps * together * sweep);
            to = after;
            for (panel, rows) in rows.chunks(P * k).enumerate() {
                let to = &mut here[panel * sweep..];
                for p in 0..P {
                    let row = rows.get(p * k..(p + 1) * k).map_or(&[][..], |row| &row[depth.clone()]);
                    let (blocks, rest) = row.as_chunks::<BLOCK>();
                    for (s, block) in blocks.iter().enumerate() {
                        put::<V, S, P>(block, s, p, together * sweep, to);
                    }
                    for s in blocks.len()..depth.len().div_ceil(BLOCK) {
                        let mut block = [S::default(); BLOCK];
                        if s == blocks.len() {
                            block[..rest.len()].copy_from_slice(rest);
                        }
                        put::<V, S, P>(&block, s, p, together * sweep, to);
                    }
                }
            }
        }
    }
}

/// Packs block s of row p. to: a panel's part of a range of inputs; its sweeps are `sweep` numbers apart.
#[inline(always)]
fn put<V: Vector, S: Element, const P: usize>(
    block: &[S; BLOCK],
    s: usize,
    p: usize,
    sweep: usize,
    to: &mut [V::Number],
) {
    let w = V::WIDTH;
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
