//! The language model: rows in, rows out, the KV cache beside them. Source: transformers `modeling_qwen2.py`.
//!
//! Prefill, a chunk of a prefill and a decode step are one function: some rows of some sequences, each attending to what
//! its own cache holds. Since every kernel's order depends on nothing else, prefill n equals prefill n − 1 and one step,
//! and a batch equals its members one by one, bit for bit (C6.1a).

mod block;
mod observe;
mod prefill;
mod qkv;
mod rotary;

pub use observe::{LayerObserved, Observer};
pub use prefill::{AT_ONCE, Sequence, packs};

use crate::cache::Cache;
use crate::config::DecoderConfig;
use crate::error::Result;
use crate::input::Positions;
use crate::kernel::rms_norm;
use crate::layer::apply;
use crate::num::Real;
use crate::pass::{Part, Pass, Stage};
use crate::weights::{Matrix, Names};
use block::Block;
use ndarray::{Array2, ArrayView2};
use rotary::Rotary;

/// A decoder's weights and configuration.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Its configuration.
    pub config: DecoderConfig,
    embedding: Matrix,
    blocks: Vec<Block>,
    norm: Vec<f32>,
    head: Matrix,
    rotary: Rotary,
}

/// Some rows of one sequence, about to be appended to its cache.
pub struct Segment<'c, T> {
    /// The sequence's cache.
    pub cache: &'c mut Cache<T>,
    /// How many of the batch's rows are this sequence's.
    pub rows: usize,
    /// Who sees the sequence's queries, if anybody does.
    pub observer: Option<&'c mut Observer<T>>,
    /// 1 + the largest position that the sequence will have when all of it is there; none: when these rows are. Spec: E6.12
    pub length: Option<i64>,
}

impl<'c, T> Segment<'c, T> {
    /// Rows that nobody observes.
    pub fn new(cache: &'c mut Cache<T>, rows: usize) -> Self {
        Segment { cache, rows, observer: None, length: None }
    }
}

impl Decoder {
    /// Takes the decoder's weights from a checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration says.
    pub fn load(ck: &Names<'_>, config: &DecoderConfig) -> Result<Self> {
        let (v, d) = (config.vocab, config.hidden);
        let (embedding, head) = ck.embedding_and_head(v, d, config.tied)?;
        Ok(Decoder {
            config: config.clone(),
            embedding,
            blocks: (0..config.layers).map(|i| Block::load(ck, config, i)).collect::<Result<_>>()?,
            norm: ck.vector("decoder.norm.weight", d)?,
            head,
            rotary: Rotary::new(config),
        })
    }

    /// An empty cache of this decoder's shape.
    pub fn cache<T: Real>(&self) -> Cache<T> {
        Cache::new(self.config.layers, self.config.kv_heads, self.config.head_dim)
    }

    /// An empty cache of this decoder's shape that keeps bf16. Spec: D7.4
    ///
    /// # Panics
    /// In f64 (C7.4a).
    pub fn cache_in_bf16<T: Real>(&self) -> Cache<T> {
        Cache::in_bf16(self.config.layers, self.config.kv_heads, self.config.head_dim)
    }

    /// Bytes of weights that one step reads: every layer, the norms, the head once.
    pub fn step_bytes(&self) -> usize {
        self.blocks.iter().map(Block::bytes).sum::<usize>() + 4 * self.norm.len() + self.head.bytes()
    }

    /// How the head's weights are stored, `BF16` as a checkpoint writes it.
    pub fn weights(&self) -> String {
        self.head.dtype().to_string()
    }

    /// Bytes of all weights: those that a step reads, and the embedding where the head is another matrix.
    pub fn bytes(&self) -> usize {
        self.step_bytes() + if self.embedding.is(&self.head) { 0 } else { self.embedding.bytes() }
    }

    /// The embeddings of tokens: ids: \[n\] → [n, d]. Spec: E6.1
    ///
    /// # Panics
    /// Where an id is not in the vocabulary (C6.1b); prompts are checked before.
    pub fn embed<T: Real>(&self, ids: &[u32]) -> Array2<T> {
        let mut x = Array2::from_elem((ids.len(), self.config.hidden), T::ZERO);
        for (mut row, &id) in x.outer_iter_mut().zip(ids) {
            self.embedding.view().row_into(id as usize, row.as_slice_mut().unwrap_or_default());
        }
        x
    }

    /// Runs rows through all layers, appending their keys and values to their caches.
    ///
    /// x: [rows of all segments, d], positions: of as many rows → the residual stream after the last layer, [rows, d].
    /// Spec: E6.2–E6.6
    pub fn forward<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        mut x: Array2<T>,
        positions: &Positions,
        segments: &mut [Segment<'_, T>],
    ) -> Array2<T> {
        let angles = self.rotary.angles(positions, segments.iter().map(|s| (s.rows, s.length)), pass.grid);
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(pass, &self.config, layer, x, &angles, segments);
        }
        for segment in segments {
            segment.cache.rows += segment.rows;
        }
        x
    }

    /// The final norm: x: [n, d] → [n, d]. Spec: E6.7, R6.7
    pub fn final_norm<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        pass.store(rms_norm(x, &self.norm, pass.epsilon(self.config.norm_eps, x), pass.grid))
    }

    /// Logits of normed rows: x: [n, d] → [n, V]. Spec: E6.7, R6.7, C6.7a
    pub fn logits<T: Real>(&self, pass: &Pass<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
        pass.store(apply(pass, x, self.head.view(), None))
    }

    /// One decode step of several sequences: a token each, appended to its cache → logits, [sequences, V].
    ///
    /// A token stands at the position after its sequence's last row, evicted or not (C6.8a). Spec: E6.8, C6.8c
    pub fn step<T: Real>(
        &self,
        pass: &mut Pass<'_, T>,
        tokens: &[u32],
        positions: &[i64],
        caches: &mut [&mut Cache<T>],
    ) -> Array2<T> {
        let mut segments: Vec<_> = caches.iter_mut().map(|cache| Segment::new(cache, 1)).collect();
        let x = pass.store(self.embed(tokens)); // R6.1
        let positions = Positions::Linear(positions.to_vec()); // C6.10a
        let x = self.forward(&mut pass.unwatched(), x, &positions, &mut segments);
        self.logits(pass, self.final_norm(pass, x.view()).view())
    }
}

/// The name of a layer's stage.
fn stage(layer: usize, site: &'static str) -> Stage {
    Stage::layer(Part::Decoder, layer, site)
}
