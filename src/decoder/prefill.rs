//! Prefill of several sequences, packed side by side without padding, a bounded number of rows at a time.

use super::{Decoder, Observer, Segment};
use crate::cache::Cache;
use crate::input::Positions;
use crate::num::Real;
use crate::pass::Pass;
use ndarray::{Array2, Axis, concatenate, s};
use std::ops::Range;

/// Rows that go through a layer at once: enough that reading the weights costs little beside using them, few enough that
/// what is alive between two kernels stays far below the cache of a long prompt. Spec: D6.11
pub const AT_ONCE: usize = 1024;

/// A chunk ends where a block of received attention does. Spec: E3.15
const BLOCK: usize = 8;

/// A prompt that is about to go through all layers.
pub struct Sequence<'c, T> {
    /// Its merged embeddings: [n, d].
    pub x: Array2<T>,
    /// Where its rows stand.
    pub positions: &'c Positions,
    /// Its cache, empty.
    pub cache: &'c mut Cache<T>,
    /// Who sees its queries.
    pub observer: &'c mut Observer<T>,
}

impl Decoder {
    /// Fills the caches of sequences, at most `at_once` rows at a time → the residual stream after the last layer of each
    /// sequence's last row, [sequences, d]. The bits do not depend on `at_once`, nor on what a sequence is packed with.
    /// Spec: D6.11, C6.11a, C6.11c
    ///
    /// # Panics
    /// A sequence without rows.
    pub fn prefill<T: Real>(&self, pass: &Pass<'_, T>, sequences: &mut [Sequence<'_, T>], at_once: usize) -> Array2<T> {
        let lengths: Vec<usize> = sequences.iter().map(|s| s.x.nrows()).collect();
        assert!(!lengths.contains(&0), "D6.11: a sequence has rows");
        sequences.iter_mut().for_each(|s| s.cache.reserve(s.x.nrows()));
        let mut last = Array2::from_elem((lengths.len(), self.config.hidden), T::ZERO);
        for pack in packs(&lengths, at_once) {
            let rows: Vec<_> = pack.iter().map(|(i, rows)| sequences[*i].x.slice(s![rows.clone(), ..])).collect();
            let x = concatenate(Axis(0), &rows).unwrap_or_else(|_| unreachable!("D6.11: rows of one width"));
            let positions = Positions::joined(pack.iter().map(|(i, rows)| (sequences[*i].positions, rows.clone())));
            let mut members = pack.iter().peekable();
            let mut segments = Vec::with_capacity(pack.len());
            for (i, sequence) in sequences.iter_mut().enumerate() {
                if let Some((_, rows)) = members.next_if(|(at, _)| *at == i) {
                    let (observer, length) = (Some(&mut *sequence.observer), Some(sequence.positions.next()));
                    segments.push(Segment { cache: &mut *sequence.cache, rows: rows.len(), observer, length });
                }
            }
            let x = self.forward(&mut pass.unwatched(), x, &positions, &mut segments);
            let mut end = 0;
            for (i, rows) in pack {
                end += rows.len();
                if rows.end == lengths[i] {
                    last.row_mut(i).assign(&x.row(end - 1));
                }
            }
        }
        last
    }
}

/// How sequences of these lengths are packed: lists of (sequence, its rows), each of at most `at_once` rows (at least 8), in
/// order. A sequence is cut at multiples of 8 rows only. Spec: D6.11
///
/// ```
/// use aircache::decoder::packs;
/// assert_eq!(packs(&[3, 21], 16), [vec![(0, 0..3), (1, 0..8)], vec![(1, 8..21)]]);
/// ```
pub fn packs(lengths: &[usize], at_once: usize) -> Vec<Vec<(usize, Range<usize>)>> {
    let at_once = at_once.max(BLOCK);
    let (mut packs, mut pack, mut room) = (Vec::new(), Vec::new(), at_once);
    for (i, &length) in lengths.iter().enumerate() {
        let mut first = 0;
        while first < length {
            let rest = length - first;
            let take = if rest <= room { rest } else { room / BLOCK * BLOCK };
            if take > 0 {
                pack.push((i, first..first + take));
                (first, room) = (first + take, room - take);
            }
            if first < length {
                packs.push(std::mem::take(&mut pack));
                room = at_once;
            }
        }
    }
    if !pack.is_empty() {
        packs.push(pack);
    }
    packs
}
