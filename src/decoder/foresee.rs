//! What a prompt's queries say of later queries: sums of queries before rotary while the prompt goes through, turned to
//! the next positions at its end. Nothing is summed unless a policy asks for it. Spec: E9.37

use super::rotary::Rotary;
use super::{Member, Sequence};
use crate::input::Positions;
use crate::num::Real;
use crate::pass::{Pass, by_head};
use crate::policy::mean_rotation;
use crate::stage::{LayerStages, Site, Stage};
use ndarray::{Array2, s};

/// Whether the queries before rotary of some member are summed in this layer: in prefill, if a policy asked.
pub(super) fn asked<T: Real>(at: LayerStages, members: &[Member<'_, T>]) -> bool {
    !at.query.is_step() && members.iter().any(|(sequence, _)| !sequence.observer.futures.is_empty())
}

/// Adds a layer's queries to the sums of each member that asked. q: [rows, H·d_h] before rotary; the rows of all members
/// are concatenated.
pub(super) fn add<T: Real>(at: LayerStages, members: &mut [Member<'_, T>], q: &Array2<T>, heads: usize) {
    let (q, mut first) = (by_head(q, heads), 0);
    for (sequence, rows) in members {
        let own = q.slice(s![.., first..first + *rows, ..]);
        first += *rows;
        sequence.observer.sum(at.query.layer, sequence.cache.rows, own);
    }
}

/// Turns what was summed to the positions that follow the prompt, and shows it as stages. If policies ask for several
/// numbers of positions, the stages are those of the smallest number. Spec: E9.37, A9.19, A9.20
pub(super) fn turn<T: Real>(rotary: &Rotary, pass: &mut Pass<'_, T>, sequence: &mut Sequence<T>) {
    let (next, observer) = (sequence.next_position, &mut sequence.observer);
    let turns = observer.futures.iter().map(|&count| {
        let (end, count) = (next + i64::from(count), count as usize);
        let angles = rotary.angles(pass, &Positions::Linear((next..end).collect()), [(count, end)].into_iter());
        mean_rotation(angles.cos.view(), angles.sin.view(), pass.grid)
    });
    let turns: Vec<[Vec<T>; 2]> = turns.collect();
    for (l, moments) in std::mem::take(&mut observer.moments).into_iter().enumerate() {
        for (i, [cos, sin]) in turns.iter().enumerate() {
            let mut future = moments.turned(cos, sin, pass.grid);
            if i == 0 {
                future.mean = pass.show(Stage::layer(Site::QueryMean, l), future.mean);
                future.covariance = pass.show(Stage::layer(Site::QueryCovariance, l), future.covariance);
            }
            observer.layers[l].futures.push(future);
        }
    }
}
