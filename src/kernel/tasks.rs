//! Linear layers divided into tasks for threads. A task computes some outputs of one layer, for every row.

use super::matrix::{End, MatrixView};
use crate::num::Real;
use ndarray::{ArrayViewMut2, Axis};
use std::cmp::Reverse;

/// A linear layer: its weights, [outputs, inputs], and what happens to its sums at their end.
pub type Layer<'a> = (MatrixView<'a>, End<'a>);

/// Outputs that take as long as the beginning of a task.
const BEGIN: usize = 8;

/// One task: the weights of its outputs, their end, and their place in the result, y: [rows, outputs].
pub struct Task<'a, 'y, T> {
    pub w: MatrixView<'a>,
    pub end: End<'a>,
    pub y: ArrayViewMut2<'y, T>,
}

/// The tasks of layers, with at most `outputs` outputs each. y: the result of each layer, [m, n] row-major.
pub fn tasks<'a, 'y, T: Real>(layers: &[Layer<'a>], y: Vec<&'y mut [T]>, outputs: usize) -> Vec<Task<'a, 'y, T>> {
    let mut tasks = Vec::with_capacity(layers.iter().map(|(w, _)| w.rows.div_ceil(outputs)).sum());
    for (&(w, (b, grid)), y) in layers.iter().zip(y) {
        let shape = (y.len() / w.rows.max(1), w.rows);
        let mut rest = ArrayViewMut2::from_shape(shape, y).unwrap_or_else(|_| unreachable!("E3.3: y is [m, n]"));
        for first in (0..w.rows).step_by(outputs) {
            let own = first..w.rows.min(first + outputs);
            let (y, others) = rest.split_at(Axis(1), own.len());
            rest = others;
            tasks.push(Task { w: w.some(own.clone()), end: (b.map(|b| &b[own]), grid), y });
        }
    }
    tasks
}

/// The outputs of a task, at most about `most` and a multiple of `step`: such that the thread with the most work has
/// little of it.
pub fn outputs_at_once(layers: &[Layer<'_>], most: usize, step: usize) -> usize {
    let (threads, all) = (rayon::current_num_threads(), layers.iter().map(|(w, _)| w.rows).sum::<usize>());
    let fewest = all.div_ceil(most.max(1)).max(1);
    let outputs = |tasks: usize| all.div_ceil(tasks).next_multiple_of(step).max(step);
    let work = |outputs: usize| {
        let tasks: usize = layers.iter().map(|(w, _)| w.rows.div_ceil(outputs)).sum();
        tasks.div_ceil(threads) * (outputs + BEGIN)
    };
    let choices = (fewest..=fewest.next_multiple_of(threads) + threads).map(outputs);
    choices.min_by_key(|&outputs| (work(outputs), Reverse(outputs))).unwrap_or(step)
}
