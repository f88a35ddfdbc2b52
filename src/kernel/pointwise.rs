//! Functions of single numbers over whole arrays: activations, gates, residual sums and stores. Each result is stored in
//! the same sweep over memory.

use super::scratch::recycle;
use super::simd::vectorize;
use super::team::share;
use crate::config::Activation;
use crate::num::{Grid, Real, gelu_erf, gelu_tanh, quick_gelu, silu};
use ndarray::Array2;

/// Numbers that stay in the first-level cache for all sweeps over them.
const AT_ONCE: usize = 4096;

/// Numbers in one task: enough that a task takes longer than its beginning, and several tasks for each thread.
fn in_task(all: usize) -> usize {
    (all / (4 * rayon::current_num_threads())).next_multiple_of(AT_ONCE).max(4 * AT_ONCE)
}

/// Stores every element, in place. Spec: R2.8
pub fn store<T: Real>(x: &mut [T], grid: Grid) {
    if grid != Grid::Native {
        sweep(
            x,
            #[inline(always)]
            |x| grid.round_all(x),
        );
    }
}

/// x ← ⟨f(x)⟩, in place. Spec: E3.6–E3.9, R3.6
pub fn activate<T: Real>(x: &mut Array2<T>, f: Activation, grid: Grid) {
    sweep(
        numbers(x),
        #[inline(always)]
        |x| {
            each(x, f);
            grid.round_all(x);
        },
    );
}

/// ⟨⟨f(gate)⟩ ⊙ up⟩; `once`: f(gate) is not stored. gate, up: the same shape. Spec: E6.6, R6.6, R10.10
pub fn gate<T: Real>(mut gate: Array2<T>, mut up: Array2<T>, f: Activation, grid: Grid, once: bool) -> Array2<T> {
    let first = if once { Grid::Native } else { grid };
    sweep_both(
        numbers(&mut gate),
        numbers(&mut up),
        #[inline(always)]
        |gate, up| {
            each(gate, f);
            first.round_all(gate);
            gate.iter_mut().zip(up).for_each(|(gate, &up)| *gate *= up);
            grid.round_all(gate);
        },
    );
    recycle(up);
    gate
}

/// ⟨x + y⟩. x, y: the same shape. Spec: R5.2, R6.5
pub fn add<T: Real>(mut x: Array2<T>, mut y: Array2<T>, grid: Grid) -> Array2<T> {
    sweep_both(
        numbers(&mut x),
        numbers(&mut y),
        #[inline(always)]
        |x, y| {
            x.iter_mut().zip(y).for_each(|(x, &y)| *x += y);
            grid.round_all(x);
        },
    );
    recycle(y);
    x
}

/// ⟨x ⊙ scale⟩, every row times the same numbers. x: [n, d], scale: \[d\]. Spec: E5.12, R5.12
pub fn scale_columns<T: Real>(mut x: Array2<T>, scale: &[f32], grid: Grid) -> Array2<T> {
    let rows = (in_task(x.len()) / scale.len().max(1)).max(1);
    share(numbers(&mut x).chunks_mut(rows * scale.len().max(1)), |rows| {
        vectorize(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(scale.len()) {
                    row.iter_mut().zip(scale).for_each(|(x, &s)| *x *= T::of_f32(s));
                }
                grid.round_all(rows);
            },
        );
    });
    x
}

/// The numbers of an array, row-major.
fn numbers<T: Real>(x: &mut Array2<T>) -> &mut [T] {
    if !x.is_standard_layout() {
        *x = x.as_standard_layout().into_owned();
    }
    x.as_slice_mut().unwrap_or_else(|| unreachable!("E3.6: the array is row-major"))
}

/// Applies `f` to every part of x, on all threads.
fn sweep<T: Real>(x: &mut [T], f: impl Fn(&mut [T]) + Sync) {
    share(x.chunks_mut(in_task(x.len())), |x| {
        vectorize(
            #[inline(always)]
            || {
                for x in x.chunks_mut(AT_ONCE) {
                    f(x);
                }
            },
        )
    });
}

/// Applies `f` to every part of x and the same part of y, on all threads.
fn sweep_both<T: Real>(x: &mut [T], y: &mut [T], f: impl Fn(&mut [T], &[T]) + Sync) {
    assert_eq!(x.len(), y.len(), "E6.6: two arrays of one shape");
    let task = in_task(x.len());
    share(x.chunks_mut(task).zip(y.chunks(task)), |(x, y)| {
        vectorize(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_mut(AT_ONCE).zip(y.chunks(AT_ONCE)) {
                    f(x, y);
                }
            },
        )
    });
}

#[inline(always)]
fn each<T: Real>(x: &mut [T], activation: Activation) {
    match activation {
        Activation::Silu => x.iter_mut().for_each(|x| *x = silu(*x)),
        Activation::GeluErf => x.iter_mut().for_each(|x| *x = gelu_erf(*x)),
        Activation::GeluTanh => x.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Activation::QuickGelu => x.iter_mut().for_each(|x| *x = quick_gelu(*x)),
        Activation::Relu => x.iter_mut().for_each(|x| *x = x.max(T::ZERO)),
    }
}
