//! Access to a checkpoint by our tensor names. For a survey or for random weights, the same interface gives other
//! matrices instead of the checkpoint's matrices.

use super::{Checkpoint, Matrix};
use crate::error::{Error, Result};
use crate::num::Grid;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

const EMBEDDING: &str = "decoder.embed_tokens.weight";
const HEAD: &str = "head.weight";

/// Access to a checkpoint by our names.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    checkpoint: &'a Checkpoint,
    accepted: fn(&str) -> Vec<String>,
    answers: Answers<'a>,
}

/// The kind of matrix that is returned for a requested tensor.
#[derive(Debug, Clone, Copy)]
enum Answers<'a> {
    /// The checkpoint's matrix.
    Stored,
    /// A matrix without numbers. If the checkpoint's tensor is missing or does not fit, an error is added to this list.
    Surveyed(&'a Mutex<Vec<Error>>),
    /// A matrix of random numbers, stored in this type.
    Invented(Grid),
    /// A matrix without numbers whose bytes, stored in this type, are counted.
    Counted(Grid),
}

impl<'a> Names<'a> {
    /// Access to a checkpoint by the names of a family: `Names::new(&checkpoint, family.profile().names)`.
    pub fn new(checkpoint: &'a Checkpoint, accepted: fn(&str) -> Vec<String>) -> Self {
        Names { checkpoint, accepted, answers: Answers::Stored }
    }

    /// The same names for a survey. For each tensor that is missing or does not fit, an error is added to `problems`.
    /// The matrices have no numbers, so nothing may compute with them.
    pub(crate) fn surveying(self, problems: &'a Mutex<Vec<Error>>) -> Self {
        Names { answers: Answers::Surveyed(problems), ..self }
    }

    /// The same names for a model with random weights. Every requested tensor gets random numbers, stored in f32
    /// (native) or in a 16-bit type.
    pub(crate) fn inventing(self, stored: Grid) -> Self {
        Names { answers: Answers::Invented(stored), ..self }
    }

    /// The same names for counting the bytes of such a model. The matrices have no numbers, so nothing may compute with
    /// them.
    pub(crate) fn counting(self, stored: Grid) -> Self {
        Names { answers: Answers::Counted(stored), ..self }
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.find(&(self.accepted)(name)).is_some()
    }

    /// A matrix: [rows, cols].
    ///
    /// # Errors
    /// The errors of [`Checkpoint::matrix`].
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.reshaped(name, &[rows, cols], rows, cols)
    }

    /// A convolution's kernel [outputs, channels, side, side] as a matrix [outputs, channels · side · side].
    ///
    /// # Errors
    /// The errors of [`Checkpoint::matrix`].
    pub fn kernel(&self, name: &str, outputs: usize, channels: usize, side: usize) -> Result<Matrix> {
        self.reshaped(name, &[outputs, channels, side, side], outputs, channels * side * side)
    }

    /// A kernel over time, height and width, [outputs, channels, depth, side, side], as a matrix
    /// [outputs, channels · depth · side · side]. shape: channels, depth, side.
    ///
    /// # Errors
    /// The errors of [`Checkpoint::matrix`].
    pub fn kernel_3d(&self, name: &str, outputs: usize, shape: [usize; 3]) -> Result<Matrix> {
        let [channels, depth, side] = shape;
        self.reshaped(name, &[outputs, channels, depth, side, side], outputs, channels * depth * side * side)
    }

    /// A matrix that is stored as a batch of one, [1, rows, cols].
    ///
    /// # Errors
    /// The errors of [`Checkpoint::matrix`].
    pub fn batch_of_one(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.reshaped(name, &[1, rows, cols], rows, cols)
    }

    /// A vector, widened to f32: `[len]`.
    ///
    /// # Errors
    /// The errors of [`Checkpoint::matrix`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let mut values = vec![if name.ends_with("bias") { 0.01 } else { 1.0 }; len];
        match self.answers {
            Answers::Stored => self.reshaped(name, &[len], 1, len)?.view().row_into(0, &mut values),
            Answers::Surveyed(_) => drop(self.reshaped(name, &[len], 1, len)?),
            Answers::Invented(_) | Answers::Counted(_) => {}
        }
        Ok(values)
    }

    /// The embedding and the head, both [vocab, hidden]. If the head is `tied`, one of the two may be missing. If both
    /// are stored, both are used, even if they differ; transformers does the same.
    ///
    /// # Errors
    /// The errors of [`Checkpoint::matrix`]; a missing head that is not tied.
    pub fn embedding_and_head(&self, vocab: usize, hidden: usize, tied: bool) -> Result<(Matrix, Matrix)> {
        let made_up = matches!(self.answers, Answers::Invented(_) | Answers::Counted(_));
        if tied && (made_up || self.has(EMBEDDING) != self.has(HEAD)) {
            let shared = self.matrix(if self.has(HEAD) { HEAD } else { EMBEDDING }, vocab, hidden)?;
            return Ok((shared.clone(), shared));
        }
        Ok((self.matrix(EMBEDDING, vocab, hidden)?, self.matrix(HEAD, vocab, hidden)?))
    }

    /// A tensor of this shape as a matrix [rows, cols].
    fn reshaped(&self, name: &str, shape: &[usize], rows: usize, cols: usize) -> Result<Matrix> {
        let names = (self.accepted)(name);
        let advised = |e: Error| match name == HEAD && !self.has(HEAD) {
            true => e.remedy("if the model shares it with the embedding, set tie_word_embeddings in config.json"),
            false => e,
        };
        match self.answers {
            Answers::Stored => self.checkpoint.reshaped(&names, shape, rows, cols).map_err(advised),
            Answers::Surveyed(problems) => {
                if let Err(e) = self.checkpoint.checked(&names, shape) {
                    problems.lock().unwrap_or_else(PoisonError::into_inner).push(advised(e));
                }
                Ok(Matrix::hollow(rows, cols, Grid::Native))
            }
            Answers::Invented(stored) => self.made_up(Matrix::invented(name, rows, cols, stored)),
            Answers::Counted(stored) => self.made_up(Matrix::hollow(rows, cols, stored)),
        }
    }

    /// Adds the bytes of a matrix that no file holds to the checkpoint's count.
    fn made_up(&self, matrix: Matrix) -> Result<Matrix> {
        self.checkpoint.made_up.fetch_add(matrix.bytes() as u64, Ordering::Relaxed);
        Ok(matrix)
    }
}
