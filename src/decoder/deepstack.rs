//! DeepStack: after each of the first layers, rows of the vision side are added to the visual rows.
//! Source: transformers `modeling_qwen3_vl.py`, `_deepstack_process`; the paper, <https://arxiv.org/abs/2406.04334>.

use super::Member;
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, Axis};

/// Adds the rows of this layer to the visual rows of x: [rows, d], the rows of all members one after the other → [rows,
/// d]. Spec: E6.18, C6.18a, R6.18
pub(super) fn added<T: Real>(
    pass: &Pass<'_, T>,
    layer: usize,
    mut x: Array2<T>,
    members: &[Member<'_, T>],
) -> Array2<T> {
    let mut first = 0;
    for (sequence, rows) in members {
        if let Some(deep) = sequence.deepstack.get(layer) {
            let visual = sequence.roles.visual();
            let row = |i: usize| sequence.pruning.row(sequence.cache.rows + i); // of the prompt
            let own = (0..*rows).filter_map(|i| Some((visual.binary_search(&row(i)).ok()?, first + i)));
            let (from, to): (Vec<_>, Vec<_>) = own.unzip();
            let sum = pass.add(x.select(Axis(0), &to), deep.select(Axis(0), &from));
            to.iter().zip(sum.outer_iter()).for_each(|(&row, sum)| x.row_mut(row).assign(&sum));
        }
        first += rows;
    }
    x
}
