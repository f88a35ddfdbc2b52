//! The canonical orders of summation. Every kernel adds in this order, on any instruction set and any number of
//! threads, so the bits are the same. Spec: D2.3, E2.4, D2.5, E2.6

use super::Real;

/// Lanes of a canonical sum.
pub const LANES: usize = 16;

/// Elements of a block of a canonical dot product: two for each lane.
pub const BLOCK: usize = 2 * LANES;

/// The 16 partial sums of a canonical sum.
pub type Lanes<T> = [T; LANES];

/// The sum of the lanes by a fixed pairwise tree: lane j takes lane j + 8, then + 4, + 2, + 1. Spec: D2.5
#[inline(always)]
pub fn fold<T: Real>(mut lanes: Lanes<T>) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] += lanes[j + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Σ x_i: lane j adds x_j, x_{j+16}, …; then the tree. An empty sum is 0. Spec: E2.6, C2.6a, C2.6b
///
/// ```
/// assert_eq!(aircache::num::sum(&[1.0, 2.0, 3.5f64]), 6.5);
/// ```
#[inline(always)]
pub fn sum<T: Real>(x: &[T]) -> T {
    sum_of(x, |v| v)
}

/// Σ f(x_i) in the order of [`sum`].
#[inline(always)]
pub(crate) fn sum_of<T: Real>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for j in 0..LANES {
            lanes[j] += f(chunk[j]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += f(v);
    }
    fold(lanes)
}

/// Rearranges a row for the canonical dot product: in each block of 32, first the 16 odd elements, then the 16 even
/// elements; a short last block is padded with zeros. [`dot`] reads two packed rows from front to back. Spec: D2.3
///
/// row: \[K\] as stored, `widen`: from a stored element to a number of the container, packed: \[⌈K/32⌉·32\].
#[inline(always)]
pub fn pack<S: Copy, T: Real>(row: &[S], widen: impl Fn(S) -> T, packed: &mut [T]) {
    let mut blocks = row.chunks_exact(BLOCK);
    let mut to = packed.chunks_exact_mut(BLOCK);
    for (row, to) in (&mut blocks).zip(&mut to) {
        for j in 0..LANES {
            to[j] = widen(row[2 * j + 1]);
            to[LANES + j] = widen(row[2 * j]);
        }
    }
    if let Some(to) = to.next() {
        to.fill(T::ZERO);
        for (k, &v) in blocks.remainder().iter().enumerate() {
            to[(1 - k % 2) * LANES + k / 2] = widen(v);
        }
    }
}

/// Σ_k x_k · w_k of two packed rows: lane j takes k = 32s + 2j + 1, then k = 32s + 2j, by fused multiply-add; then the
/// tree. Spec: E2.4
#[inline(always)]
pub fn dot<T: Real>(x: &[T], w: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        lanes = fma(x, w, lanes);
    }
    fold(lanes)
}

/// One step of every lane: lane j becomes x_j · w_j + lane j, rounded once. Spec: D2.2
#[inline(always)]
pub fn fma<T: Real>(x: &Lanes<T>, w: &Lanes<T>, mut lanes: Lanes<T>) -> Lanes<T> {
    for j in 0..LANES {
        lanes[j] = x[j].mul_add(w[j], lanes[j]);
    }
    lanes
}

/// The definition of [`dot`] on unpacked rows, for one output: the naive twin. Spec: E2.4, C2.4a, C2.4b
pub fn dot_in_order<T: Real>(x: &[T], w: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    for s in (0..x.len()).step_by(BLOCK) {
        for (j, lane) in lanes.iter_mut().enumerate() {
            for k in [s + 2 * j + 1, s + 2 * j] {
                let (x, w) = if k < x.len() { (x[k], w[k]) } else { (T::ZERO, T::ZERO) };
                *lane = x.mul_add(w, *lane);
            }
        }
    }
    fold(lanes)
}
