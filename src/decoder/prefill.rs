//! Prefill of several prompts. Prompts are packed without padding, and each pass takes a bounded number of rows.

use super::{Decoder, Member, Sequence, foresee};
use crate::input::Positions;
use crate::num::Real;
use crate::pass::Pass;
use crate::stage::{Phase, Site, Stage};
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use std::ops::Range;

/// The number of rows that go through a layer at once. It is large enough that computing with the weights takes much
/// longer than reading them. It is small enough that the arrays between two kernels need far less memory than the KV
/// cache of a long prompt. Spec: D6.11
pub const AT_ONCE: usize = 1024;

/// Received attention is summed in blocks of this many rows, and a chunk ends where a block ends. Spec: E3.15
const BLOCK: usize = 8;

impl Decoder {
    /// Fills each sequence with the rows of its prompt, at most `at_once` rows at a time. A watched pass takes one
    /// prompt in one piece. The resulting bits depend neither on `at_once` nor on the other prompts in a pack.
    /// Spec: E6.7, D6.11, C6.11a, C6.11c
    ///
    /// prompts: merged embeddings [n, d] and positions of each sequence.
    ///
    /// # Panics
    /// If a prompt has no rows, or if a watched pass gets several prompts.
    pub fn prefill<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        prompts: &[(Array2<T>, &Positions)],
        sequences: &mut [Sequence<T>],
        at_once: usize,
    ) {
        let watched = pass.is_watched();
        let lengths: Vec<usize> = prompts.iter().map(|(x, _)| x.nrows()).collect();
        assert!(!lengths.contains(&0) && lengths.len() == sequences.len(), "D6.11: every sequence has rows");
        assert!(!watched || lengths.len() == 1, "D6.11: stages are those of one prompt");
        for (sequence, (x, positions)) in sequences.iter_mut().zip(prompts) {
            let Sequence { cache, pruning, roles, .. } = sequence;
            for (layer, heads) in cache.layers.iter_mut().enumerate() {
                heads.iter_mut().for_each(|head| head.reserve(pruning.count(layer, roles, x.nrows())));
            }
            sequence.next_position = positions.next();
        }
        // Layers between two cuts take all rows before the next layer takes any: the last row decides what is dropped.
        let layers = self.config.layers;
        let mut ends: Vec<usize> = sequences.iter().flat_map(|s| s.pruning.cuts.iter().map(|cut| cut.layer)).collect();
        ends.sort_unstable();
        ends.dedup();
        let at_once = if watched { usize::MAX } else { at_once };
        let (mut first, mut left) = (0, borrowed(prompts));
        let mut held: Vec<(Array2<T>, Positions)>;
        for end in ends {
            let rows = self.between(pass, first..end, &left, sequences, at_once);
            held = rows.into_iter().zip(left.iter().map(|(_, positions)| (*positions).clone())).collect();
            for (sequence, (x, positions)) in sequences.iter_mut().zip(&mut held) {
                let Sequence { cache, pruning, roles, next_position, .. } = sequence;
                if let Some(kept) = pruning.cut(pass, (cache, roles), (end, x.nrows()), self.config.head_dim) {
                    if end == 0 {
                        *positions = positions.closed(&kept); // C9.10a
                        *next_position = positions.next();
                    }
                    (*x, *positions) = (x.select(Axis(0), &kept), positions.picked(&kept));
                    pruning.fill(x, &kept); // E9.36
                }
                cache.rows = 0; // of the layers from `end` on
            }
            (first, left) = (end, borrowed(&held));
        }
        self.last(pass, first..layers, &left, sequences, at_once);
        for (sequence, &length) in sequences.iter_mut().zip(&lengths) {
            sequence.cache.rows = length;
            foresee::turn(&self.rotary, pass, sequence); // E9.37
            sequence.deepstack = Vec::new();
        }
    }

    /// Runs the rows of all sequences through some layers: the residual stream after them, [rows, d] of each sequence.
    fn between<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        layers: Range<usize>,
        prompts: &[Part<'_, T>],
        sequences: &mut [Sequence<T>],
        at_once: usize,
    ) -> Vec<Array2<T>> {
        let mut out: Vec<Array2<T>> = prompts.iter().map(|(x, _)| Array2::from_elem(x.dim(), T::ZERO)).collect();
        let lengths: Vec<usize> = prompts.iter().map(|(x, _)| x.nrows()).collect();
        for pack in packs(&lengths, at_once) {
            let x = self.pack(pass, layers.clone(), &pack, prompts, sequences);
            let mut end = 0;
            for (i, rows) in pack {
                out[i].slice_mut(s![rows.clone(), ..]).assign(&x.slice(s![end..end + rows.len(), ..]));
                end += rows.len();
            }
        }
        out
    }

    /// Runs the rows of all sequences through the last layers, and gives each sequence its logits.
    fn last<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        layers: Range<usize>,
        prompts: &[Part<'_, T>],
        sequences: &mut [Sequence<T>],
        at_once: usize,
    ) {
        let watched = pass.is_watched();
        let lengths: Vec<usize> = prompts.iter().map(|(x, _)| x.nrows()).collect();
        for pack in packs(&lengths, at_once) {
            let x = self.pack(pass, layers.clone(), &pack, prompts, sequences);
            // A prompt's logits are the logits of its last row. Only a watched pass needs the norm of the other rows.
            let mut end = 0;
            let ends = pack.iter().map(|(i, rows)| (*i, (end += rows.len(), end - 1).1, rows.end == lengths[*i]));
            let (ended, last): (Vec<usize>, Vec<usize>) = ends.filter(|e| e.2).map(|(i, row, _)| (i, row)).unzip();
            let h = if watched {
                let h = self.final_norm(pass, x.view());
                pass.show(Stage::once(Site::Norm), h).select(Axis(0), &last)
            } else {
                self.final_norm(pass, x.select(Axis(0), &last).view())
            };
            for (i, logits) in ended.into_iter().zip(self.logits(pass, h.view()).outer_iter()) {
                sequences[i].logits = pass.show(Phase::Prefill.logits(), logits.to_owned()).to_vec();
            }
        }
    }

    /// Runs the rows of a pack through some layers. Returns the residual stream after them: [rows, d].
    fn pack<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        layers: Range<usize>,
        pack: &[(usize, Range<usize>)],
        prompts: &[Part<'_, T>],
        sequences: &mut [Sequence<T>],
    ) -> Array2<T> {
        let rows: Vec<_> = pack.iter().map(|(i, rows)| prompts[*i].0.slice(s![rows.clone(), ..])).collect();
        let x = concatenate(Axis(0), &rows).unwrap_or_else(|_| unreachable!("D6.11: rows of one width"));
        let positions = Positions::joined(pack.iter().map(|(i, rows)| (prompts[*i].1, rows.clone())));
        let mut parts = pack.iter().peekable();
        let packed = sequences.iter_mut().enumerate();
        let mut members: Vec<Member<'_, T>> =
            packed.filter_map(|(i, sequence)| Some((sequence, parts.next_if(|(at, _)| *at == i)?.1.len()))).collect();
        self.through(pass, Phase::Prefill, layers, x, &positions, &mut members)
    }
}

/// The rows of a prompt that enter some layers, [rows, d], and their positions.
type Part<'a, T> = (ArrayView2<'a, T>, &'a Positions);

fn borrowed<T, P: std::borrow::Borrow<Positions>>(rows: &[(Array2<T>, P)]) -> Vec<Part<'_, T>> {
    rows.iter().map(|(x, positions)| (x.view(), positions.borrow())).collect()
}

/// Divides prompts of these lengths into packs, in order. A pack is a list of (prompt, rows of this prompt) and holds
/// at most `at_once` rows (8 if `at_once` is smaller). A prompt is cut only at multiples of 8 rows. Spec: D6.11
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
