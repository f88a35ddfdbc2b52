//! The naive twins: every kernel as its equation reads, one number after the other.
//!
//! No threads, no blocks, no packing: each twin is short enough to believe at sight. Twins are generic over the
//! container, so they serve twice. In the kernel's own container, with the order of sums that the spec names, the
//! kernel must equal the twin bit for bit. In f64 a twin is the mathematics, and the kernel's error is measured against
//! it. The forward pass never calls twins. Tests: `tests/spec/ch03_kernels.rs`.

use super::scale;
use crate::num::{BLOCK, Grid, LANES, Real, dot_in_order, fold};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView4};

/// Σ x_i, x_i in lane i mod 16, then the tree. Spec: E2.6
pub fn sum<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    for (i, &v) in x.iter().enumerate() {
        lanes[i % LANES] += v;
    }
    fold(lanes)
}

/// y_mn = Σ_k x_mk · w_nk + b_n. x: [m, k], w: [n, k], b: \[n\] → [m, n]. Spec: E3.3, C3.3b, C3.3c
pub fn linear<T: Real>(x: ArrayView2<'_, T>, w: ArrayView2<'_, T>, b: Option<&[T]>) -> Array2<T> {
    Array2::from_shape_fn((x.nrows(), w.nrows()), |(m, n)| {
        let y = dot_in_order(&x.row(m).to_vec(), &w.row(n).to_vec());
        b.map_or(y, |b| y + b[n])
    })
}

/// The linear layer in the order of a matrix unit. x: [m, k], w: [n, k], b: \[n\] → [m, n]. Spec: E3.16, C3.16a
pub fn linear_in_tiles(x: ArrayView2<'_, f32>, w: ArrayView2<'_, f32>, b: Option<&[f32]>) -> Array2<f32> {
    Array2::from_shape_fn((x.nrows(), w.nrows()), |(m, n)| {
        let y = dot_in_tiles(&x.row(m).to_vec(), &w.row(n).to_vec());
        b.map_or(y, |b| y + b[n])
    })
}

/// Σ_k x_k · w_k in the order of a matrix unit. x, w: \[k\]. Spec: E3.16
fn dot_in_tiles(x: &[f32], w: &[f32]) -> f32 {
    let block =
        |sum: f32, (x, w): (&[f32], &[f32])| flushed(sum + flushed(chain_in_tile(x, w, 0) + chain_in_tile(x, w, 1)));
    x.chunks(BLOCK).zip(w.chunks(BLOCK)).fold(0.0, block)
}

/// Σ_j x_{2j + first} · w_{2j + first} of up to 32 inputs, by fma from 0; every number below 2⁻¹²⁶ is flushed. Spec: E3.16
pub fn chain_in_tile(x: &[f32], w: &[f32], first: usize) -> f32 {
    let step = |sum: f32, (&x, &w): (&f32, &f32)| {
        let (x, w) = (flushed(x), flushed(w));
        let exact = f64::from(x) * f64::from(w) + f64::from(sum);
        let new = x.mul_add(w, sum);
        // Rounded to 24 bits of any size, the exact number stays below 2⁻¹²⁶; rounded to the steps there, it does not.
        let below = f64::from(f32::MIN_POSITIVE) - (-151f64).exp2();
        if new.abs() == f32::MIN_POSITIVE && exact.abs() < below { 0f32.copysign(new) } else { flushed(new) }
    };
    x.iter().skip(first).step_by(2).zip(w.iter().skip(first).step_by(2)).fold(0.0, step)
}

/// The number, or a zero of its sign if it is below 2⁻¹²⁶. Spec: E3.16
#[inline(always)]
pub fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x }
}

/// p_i = exp(s_i − m) / Σ_j exp(s_j − m). s: \[n\], −∞ where masked. Spec: E3.2, C3.2b
pub fn softmax<T: Real>(s: &[T]) -> Vec<T> {
    let (e, total) = exponentials(s);
    e.into_iter().map(|e| if total == T::ZERO { T::ZERO } else { e / total }).collect()
}

/// exp(s_i − m), and their sum. Spec: E3.2
fn exponentials<T: Real>(s: &[T]) -> (Vec<T>, T) {
    let m = s.iter().fold(T::NEG_INFINITY, |m, &s| s.max(m));
    if m == T::NEG_INFINITY {
        let nothing = s.iter().copied().find(|s| s.to_f64().is_nan()).unwrap_or(T::ZERO); // C3.2c
        return (vec![nothing; s.len()], nothing);
    }
    let e: Vec<T> = s.iter().map(|&s| (s - m).exp()).collect();
    let total = sum(&e);
    (e, total)
}

/// Σ_d q_d · k_d, d ascending. q, k: \[d_h\]. Spec: E3.4, C3.4a
pub fn score<T: Real>(q: &[T], k: &[T]) -> T {
    q.iter().zip(k).fold(T::ZERO, |s, (&q, &k)| q.mul_add(k, s))
}

/// Σ_i p_i · v_i: 256 entries in order, then the next 256; the parts added in order. p, v: \[len\]. Spec: E3.5, D3.5
pub fn mix<T: Real>(p: &[T], v: &[T]) -> T {
    let part = |(p, v): (&[T], &[T])| p.iter().zip(v).fold(T::ZERO, |s, (&p, &v)| p.mul_add(v, s));
    p.chunks(256).zip(v.chunks(256)).map(part).fold(T::ZERO, |sum, part| sum + part)
}

/// Σ_i p_i · v_i in the order of a matrix unit, 256 entries at a time; the parts added in order. p, v: \[len\].
/// Spec: E3.17
fn mix_in_tiles(p: &[f32], v: &[f32]) -> f32 {
    p.chunks(256).zip(v.chunks(256)).map(|(p, v)| dot_in_tiles(p, v)).fold(0.0, |sum, part| sum + part)
}

/// One query over the entries that it sees, in bf16 and in the order of a matrix unit.
///
/// q: \[d_h\], keys, values: [len, d_h] → mix: \[d_h\]. Spec: E3.17, R3.5
pub fn attend_in_tiles(q: &[f32], keys: ArrayView2<'_, f32>, values: ArrayView2<'_, f32>) -> Vec<f32> {
    let round = |v: f32| Grid::Bf16.round(v);
    let scaled = |k: ArrayView1<'_, f32>| round(round(dot_in_tiles(q, &k.to_vec())) * scale::<f32>(q.len()));
    let p = softmax(&keys.outer_iter().map(scaled).collect::<Vec<_>>());
    let p: Vec<f32> = p.into_iter().map(round).collect();
    values.columns().into_iter().map(|v| round(mix_in_tiles(&p, &v.to_vec()))).collect()
}

/// One query over the entries that it sees.
///
/// q: \[d_h\], keys, values: [len, d_h] → mix: \[d_h\], weights: \[len\]. Spec: E3.5, R3.5, C3.5b, C3.5c
pub fn attend<T: Real>(q: &[T], keys: ArrayView2<'_, T>, values: ArrayView2<'_, T>, grid: Grid) -> (Vec<T>, Vec<T>) {
    let scaled = |k: &[T]| grid.round(grid.round(score(q, k)) * scale(q.len()));
    let (e, total) = exponentials(&keys.outer_iter().map(|k| scaled(&k.to_vec())).collect::<Vec<_>>());
    let p: Vec<T> = e.iter().map(|&e| if total == T::ZERO { T::ZERO } else { grid.round(e / total) }).collect();
    let column = |i: usize| values.column(i).to_vec();
    let out = |i: usize| match grid {
        Grid::Native if total != T::ZERO => mix(&e, &column(i)) / total,
        _ => grid.round(mix(&p, &column(i))),
    };
    ((0..q.len()).map(out).collect(), p)
}

/// A sequence's query rows over its KV heads.
///
/// q: [rows, H·d_h], heads: G pairs of keys and values [len_g, d_h] → mix: [rows, H·d_h], received: `[G][len_g]`.
/// Row r of R sees all entries, or with `causal` the first len_g − R + r + 1. Spec: E3.5, E3.15, C3.15a
pub fn attention<T: Real>(
    q: ArrayView2<'_, T>,
    heads: &[(Array2<T>, Array2<T>)],
    causal: bool,
    grid: Grid,
) -> (Array2<T>, Vec<Vec<T>>) {
    let (rows, width) = q.dim();
    let d = heads[0].0.ncols();
    let group = width / d / heads.len();
    let mut mix = Array2::from_elem((rows, width), T::ZERO);
    let mut received: Vec<Vec<T>> = heads.iter().map(|(k, _)| vec![T::ZERO; k.nrows()]).collect();
    for block in (0..rows).step_by(8) {
        for (g, (keys, values)) in heads.iter().enumerate() {
            let mut part = vec![T::ZERO; keys.nrows()];
            for h in g * group..(g + 1) * group {
                for r in block..rows.min(block + 8) {
                    let seen = if causal { keys.nrows() + r + 1 - rows } else { keys.nrows() };
                    let at = ndarray::s![..seen, ..];
                    let q = q.row(r).to_vec()[h * d..(h + 1) * d].to_vec();
                    let (out, p) = attend(&q, keys.slice(at), values.slice(at), grid);
                    out.iter().enumerate().for_each(|(i, &o)| mix[[r, h * d + i]] = o);
                    part.iter_mut().zip(p).for_each(|(s, p)| *s += p);
                }
            }
            received[g].iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
    }
    (mix, received)
}

/// grid(x_i / √(Σ x² / d + ε)) · w_i. x, w: \[d\]. Spec: E3.10, C3.10a
pub fn rms_norm<T: Real>(x: &[T], w: &[T], eps: f64, grid: Grid) -> Vec<T> {
    let squares: Vec<T> = x.iter().map(|&x| x * x).collect();
    let scale = T::ONE / (sum(&squares) / T::of(x.len() as f64) + T::of(eps)).sqrt();
    x.iter().zip(w).map(|(&x, &w)| grid.round(x * scale) * w).collect()
}

/// (x_i − μ) / √(σ² + ε) · w_i + b_i. x, w, b: \[d\]. Spec: E3.11, C3.11a
pub fn layer_norm<T: Real>(x: &[T], w: &[T], b: &[T], eps: f64) -> Vec<T> {
    let d = T::of(x.len() as f64);
    let mean = sum(x) / d;
    let squares: Vec<T> = x.iter().map(|&x| (x - mean) * (x - mean)).collect();
    let scale = T::ONE / (sum(&squares) / d + T::of(eps)).sqrt();
    (0..x.len()).map(|i| (x[i] - mean) * scale * w[i] + b[i]).collect()
}

/// Rotates one head by its angles: (a, b) → (a·cos − b·sin, b·cos + a·sin). head: \[d_h\], cos, sin: \[d_h/2\].
/// Spec: E3.13, C3.13a
pub fn rotate<T: Real>(head: &[T], cos: &[T], sin: &[T], grid: Grid) -> Vec<T> {
    let (a, b) = head.split_at(head.len() / 2);
    let times = |x: T, y: T| grid.round(x * y);
    let first = (0..a.len()).map(|i| grid.round(times(a[i], cos[i]) - times(b[i], sin[i])));
    let second = (0..a.len()).map(|i| grid.round(times(b[i], cos[i]) + times(a[i], sin[i])));
    first.chain(second).collect()
}

/// The pixels of every patch, patch after patch: tiles, rows, columns; in a patch channels, rows, columns. Spec: E3.14
pub fn patches<T: Real>(pixels: ArrayView4<'_, f32>, p: usize) -> Vec<Vec<T>> {
    let (tiles, channels, height, width) = pixels.dim();
    let mut all = Vec::new();
    for tile in 0..tiles {
        for top in (0..height / p).map(|i| i * p) {
            for left in (0..width / p).map(|i| i * p) {
                let patch = pixels.slice(ndarray::s![tile, .., top..top + p, left..left + p]);
                debug_assert_eq!(patch.len(), channels * p * p);
                all.push(patch.iter().map(|&v| T::of_f32(v)).collect()); // row-major: channel, row, column
            }
        }
    }
    all
}

/// x / (1 + e^−x). Spec: E3.6, C3.6a
pub fn silu(x: f64) -> f64 {
    x / (1.0 + libm::exp(-x))
}

/// x / (1 + e^−1.702x). Spec: E3.7, C3.7a
pub fn quick_gelu(x: f64) -> f64 {
    x / (1.0 + libm::exp(-1.702 * x))
}

/// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))). Spec: E3.8, C3.8a
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::tanh((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)))
}

/// ½ x (1 + erf(x / √2)), computed in a second form that has no cancellation. Spec: E3.9, C3.9a
pub fn gelu_erf(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x / 2f64.sqrt())
}
