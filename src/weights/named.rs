//! A checkpoint that is asked by our names of tensors; a survey or a made-up model stands in its place where one is wanted.

use super::{Checkpoint, Matrix};
use crate::error::{Error, Result};
use crate::num::Grid;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

/// A checkpoint, asked by our names.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    checkpoint: &'a Checkpoint,
    accepted: fn(&str) -> Vec<String>,
    problems: Option<&'a Mutex<Vec<Error>>>,
    invented: Option<Grid>,
    /// Whether what is invented is counted alone, not made.
    hollow: bool,
}

impl<'a> Names<'a> {
    /// The names of a family, in a checkpoint: `Names::new(&checkpoint, family.profile().names)`.
    pub fn new(checkpoint: &'a Checkpoint, accepted: fn(&str) -> Vec<String>) -> Self {
        Names { checkpoint, accepted, problems: None, invented: None, hollow: false }
    }

    /// The same names for a survey: a tensor that is missing or does not fit becomes one of `problems`, and in its place
    /// comes an empty one, which nothing may compute with.
    pub(crate) fn surveying(self, problems: &'a Mutex<Vec<Error>>) -> Self {
        Names { problems: Some(problems), ..self }
    }

    /// The same names for a model whose weights nobody trained: whatever is asked for is made up, stored in f32 (native) or
    /// a type of 16 bits.
    pub(crate) fn inventing(self, stored: Grid) -> Self {
        Names { invented: Some(stored), ..self }
    }

    /// The same, counted alone: the matrices have no numbers, and nothing may compute with them.
    pub(crate) fn counting(self, stored: Grid) -> Self {
        Names { hollow: true, ..self.inventing(stored) }
    }

    /// A tensor, or in a survey what takes its place.
    fn noted<V>(&self, tensor: Result<V>, instead: impl FnOnce() -> V) -> Result<V> {
        match (tensor, self.problems) {
            (Err(e), Some(problems)) => {
                problems.lock().unwrap_or_else(PoisonError::into_inner).push(e);
                Ok(instead())
            }
            (tensor, _) => tensor,
        }
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.find(&(self.accepted)(name)).is_some()
    }

    /// A matrix: [rows, cols].
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        if let Some(stored) = self.invented {
            let matrix = match self.hollow {
                true => Matrix::hollow_as(rows, cols, stored),
                false => Matrix::invented(name, rows, cols, stored),
            };
            self.checkpoint.made_up.fetch_add(matrix.bytes() as u64, Ordering::Relaxed);
            return Ok(matrix);
        }
        let found = self.checkpoint.matrix(&(self.accepted)(name), rows, cols);
        self.noted(found, || Matrix::hollow(rows, cols))
    }

    /// A convolution's kernel as a matrix: [outputs, channels · side · side].
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn kernel(&self, name: &str, outputs: usize, channels: usize, side: usize) -> Result<Matrix> {
        if self.invented.is_some() {
            return self.matrix(name, outputs, channels * side * side);
        }
        let found = self.checkpoint.kernel(&(self.accepted)(name), outputs, channels, side);
        self.noted(found, || Matrix::hollow(outputs, channels * side * side))
    }

    /// A kernel over time, height and width as a matrix; shape: channels, depth, side.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn kernel_3d(&self, name: &str, outputs: usize, shape: [usize; 3]) -> Result<Matrix> {
        if self.invented.is_some() {
            return self.matrix(name, outputs, shape[0] * shape[1] * shape[2] * shape[2]);
        }
        let found = self.checkpoint.kernel_3d(&(self.accepted)(name), outputs, shape);
        self.noted(found, || Matrix::hollow(outputs, shape[0] * shape[1] * shape[2] * shape[2]))
    }

    /// A matrix that is stored as a batch of one: [1, rows, cols].
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn batch_of_one(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        if self.invented.is_some() {
            return self.matrix(name, rows, cols);
        }
        let found = self.checkpoint.batch_of_one(&(self.accepted)(name), rows, cols);
        self.noted(found, || Matrix::hollow(rows, cols))
    }

    /// A vector, widened to f32: `[len]`.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        if self.invented.is_some() {
            return Ok(vec![if name.ends_with("bias") { 0.01 } else { 1.0 }; len]);
        }
        self.noted(self.checkpoint.vector(&(self.accepted)(name), len), Vec::new)
    }

    /// The embedding and the head: both [vocab, hidden]. Where the head is `tied`, one of them may be missing; where both
    /// are stored each is used, also if they differ, as transformers does.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`]; a missing head that is not tied.
    pub fn embedding_and_head(&self, vocab: usize, hidden: usize, tied: bool) -> Result<(Matrix, Matrix)> {
        const EMBEDDING: &str = "decoder.embed_tokens.weight";
        const HEAD: &str = "head.weight";
        let read = |name| self.matrix(name, vocab, hidden);
        if self.invented.is_some() {
            let embedding = read(EMBEDDING)?;
            return Ok(if tied { (embedding.clone(), embedding) } else { (embedding, read(HEAD)?) });
        }
        if tied && self.has(EMBEDDING) != self.has(HEAD) {
            let shared = read(if self.has(HEAD) { HEAD } else { EMBEDDING })?;
            return Ok((shared.clone(), shared));
        }
        let embedding = read(EMBEDDING)?;
        let head = self.checkpoint.matrix(&(self.accepted)(HEAD), vocab, hidden).map_err(|e| match self.has(HEAD) {
            true => e,
            false => e.remedy("if the model shares it with the embedding, set tie_word_embeddings in config.json"),
        });
        Ok((embedding, self.noted(head, || Matrix::hollow(vocab, hidden))?))
    }
}
