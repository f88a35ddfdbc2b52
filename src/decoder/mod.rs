//! The language model: it maps rows to rows and fills the KV cache. Source: transformers `modeling_qwen2.py`.
//!
//! Prefill, a chunk of a prefill and a decode step are one function. This function takes rows of one or more sequences,
//! and each row attends only to the cache of its own sequence. The order of a kernel's sums depends on nothing else.
//! Therefore a prefill of n rows gives the same bits as a prefill of n − 1 rows followed by one step, and a batch gives
//! the same bits as its members run one by one (C6.1a).

mod attend;
mod block;
mod deepstack;
mod foresee;
mod observe;
mod prefill;
mod prune;
mod rotary;
mod sequence;

pub use observe::{LayerObserved, Observer};
pub use prefill::{AT_ONCE, packs};
pub use prune::{Made, Pruning, Told};
pub use sequence::{Member, Sequence};

use crate::cache::Cache;
use crate::config::{DecoderConfig, NormKind};
use crate::error::Result;
use crate::input::Positions;
use crate::layer::Norm;
use crate::num::{Grid, Real};
use crate::pass::{Pass, Stored, Weights};
use crate::stage::Phase;
use crate::weights::{Matrix, Names};
use block::Block;
use ndarray::{Array2, ArrayView2};
use rotary::Rotary;
use std::ops::Range;

/// A decoder's weights and configuration.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The decoder's configuration.
    pub config: DecoderConfig,
    embedding: Matrix,
    blocks: Vec<Block>,
    norm: Norm,
    head: Matrix,
    rotary: Rotary,
}

impl Decoder {
    /// Loads the decoder's weights from a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing, or its shape differs from the configuration.
    pub fn load(ck: &Names<'_>, config: &DecoderConfig) -> Result<Self> {
        let (v, d) = (config.vocab, config.hidden);
        let (embedding, head) = ck.embedding_and_head(v, d, config.tied)?;
        Ok(Decoder {
            config: config.clone(),
            embedding,
            blocks: (0..config.layers).map(|i| Block::load(ck, config, i)).collect::<Result<_>>()?,
            norm: Norm::load(ck, "decoder.norm", NormKind::Rms, d, config.norm_eps)?,
            head,
            rotary: Rotary::new(config),
        })
    }

    /// An empty cache of this decoder's shape.
    pub fn cache<T: Real>(&self) -> Cache<T> {
        Cache::new(self.config.layers, self.config.kv_heads, self.config.head_dim)
    }

    /// An empty cache of this decoder's shape that stores keys and values in a type. Spec: D7.4
    ///
    /// # Panics
    /// If T is f64 and the type is not T's (C7.4a).
    pub fn cache_in<T: Real>(&self, grid: Grid) -> Cache<T> {
        Cache::stored(self.config.layers, self.config.kv_heads, self.config.head_dim, grid)
    }

    /// Bytes of weights that one decode step reads: every layer, the norms, and the head once.
    pub fn step_bytes(&self) -> usize {
        self.blocks.iter().map(Block::bytes).sum::<usize>() + self.norm.bytes() + self.head.bytes()
    }

    /// The storage type of the head's weights, as checkpoints spell it: `BF16`, for example.
    pub fn weights(&self) -> String {
        self.head.dtype().to_string()
    }

    /// Bytes of all weights: the weights that a step reads, plus the embedding if the head is a separate matrix.
    pub fn bytes(&self) -> usize {
        self.step_bytes() + if self.embedding.is(&self.head) { 0 } else { self.embedding.bytes() }
    }

    /// The embeddings of tokens. ids: \[n\] → [n, d]. Spec: E6.1
    ///
    /// # Panics
    /// If an id is not in the vocabulary (C6.1b). Prompts are checked before this call.
    pub fn embed<T: Real>(&self, ids: &[u32]) -> Array2<T> {
        let mut x = Array2::from_elem((ids.len(), self.config.hidden), T::ZERO);
        for (mut row, &id) in x.outer_iter_mut().zip(ids) {
            let row = row.as_slice_mut().unwrap_or_else(|| unreachable!("E6.1: rows lie side by side"));
            self.embedding.view().row_into(id as usize, row);
        }
        x
    }

    /// Runs rows through all layers and appends the rows' keys and values to the caches of their sequences.
    ///
    /// x: [rows, d], the rows of all members concatenated; positions: one for each row of x. Returns the residual
    /// stream after the last layer, [rows, d]. Spec: E6.2–E6.6, E6.18
    pub fn forward<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        phase: Phase,
        x: Array2<T>,
        positions: &Positions,
        members: &mut [Member<'_, T>],
    ) -> Array2<T> {
        self.through(pass, phase, 0..self.blocks.len(), x, positions, members)
    }

    /// As [`forward`](Self::forward), through some of the layers. Spec: C9.9b
    fn through<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        phase: Phase,
        layers: Range<usize>,
        mut x: Array2<T>,
        positions: &Positions,
        members: &mut [Member<'_, T>],
    ) -> Array2<T> {
        let mut first = 0;
        for (sequence, rows) in members.iter_mut() {
            sequence.next_position = sequence.next_position.max(positions.next_of(first..first + *rows));
            first += *rows;
        }
        let lengths = members.iter().map(|(sequence, rows)| (*rows, sequence.next_position));
        let angles = self.rotary.angles(pass, positions, lengths);
        for layer in layers {
            x = self.blocks[layer].forward(pass, &self.config, phase.at(layer), x, &angles, members);
            x = deepstack::added(pass, layer, x, members); // E6.18
        }
        for (sequence, rows) in members {
            sequence.cache.rows += *rows;
        }
        x
    }

    /// How far honest rotary angles in f32 may be from the exact angles, for rows of one sequence, whose largest
    /// position is `length` − 1: [rows, d_h/2], in radians. Spec: D10.11
    pub fn angle_slack(&self, rows: usize, positions: &Positions, length: i64) -> Array2<f64> {
        self.rotary.slack(rows, positions, length)
    }

    /// The frequency of each pair of a head in a sequence of `length` rows, and the axis of the position that it is
    /// multiplied with: \[d_h/2\]. Spec: E3.12, E6.10
    pub fn frequencies(&self, length: i64) -> Vec<(f64, usize)> {
        self.rotary.pairs(length)
    }

    /// The final norm. x: [n, d] → [n, d]. Spec: E6.7, R6.7
    pub fn final_norm<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        self.norm.forward(pass, x)
    }

    /// Logits of rows after the final norm. x: [n, d] → [n, V]. Spec: E6.7, R6.7, C6.7a
    pub fn logits<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        pass.linear(x, Weights { w: self.head.view(), b: None, stored: Stored::Once })
    }

    /// Decode step t of several sequences. Each sequence takes one token, appends it to its cache and then holds the
    /// logits of its next token.
    ///
    /// A token's position follows the position of its sequence's last row, even if that row was evicted (C6.8a).
    /// Spec: E6.8, C6.8c
    pub fn step<T: Real>(&self, pass: &mut Pass<'_, T>, t: usize, tokens: &[u32], sequences: &mut [&mut Sequence<T>]) {
        let phase = Phase::Step(t);
        let positions = Positions::Linear(sequences.iter().map(|s| s.next_position).collect()); // C6.10a
        let x = pass.store(self.embed(tokens)); // R6.1
        let mut members: Vec<Member<'_, T>> = sequences.iter_mut().map(|s| (&mut **s, 1)).collect();
        let x = self.forward(pass, phase, x, &positions, &mut members);
        let logits = self.logits(pass, self.final_norm(pass, x.view()).view());
        for (sequence, logits) in sequences.iter_mut().zip(logits.outer_iter()) {
            sequence.logits = pass.show(phase.logits(), logits.to_owned()).to_vec();
        }
    }
}
