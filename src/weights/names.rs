//! Our names of tensors → the names that checkpoints of a family use.
//!
//! LLaVA-OneVision (Hugging Face's form): transformers up to 4.51 and again from 5 writes the older names
//! (`language_model.model.…`), some versions between wrote the newer ones (`model.language_model.…`); `vision_model.`
//! in the tower's names was dropped in 5. All are read. Source: transformers 5.17, `conversion_mapping.py`
//! (`llava_next`), and the names in checkpoints on the hub.

use super::{Checkpoint, Matrix};
use crate::error::{Error, Result};
use std::sync::{Mutex, PoisonError};

/// A checkpoint, asked by our names.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    checkpoint: &'a Checkpoint,
    accepted: fn(&str) -> Vec<String>,
    problems: Option<&'a Mutex<Vec<Error>>>,
}

/// The names that LLaVA-OneVision checkpoints may use for `ours`, in order of preference.
///
/// `decoder.X` is the language model without its head, `head.X` the head, `vision.X` the tower, `projector.X` the
/// projector, `newline` the newline row.
///
/// ```
/// let names = aircache::weights::names::llava_onevision("decoder.norm.weight");
/// assert_eq!(names[..2], ["language_model.model.norm.weight", "model.language_model.norm.weight"]);
/// ```
pub fn llava_onevision(ours: &str) -> Vec<String> {
    const PREFIXES: [(&str, &[&str]); 5] = [
        (
            "decoder.",
            &["language_model.model.", "model.language_model.", "language_model.", "model.language_model.model."],
        ),
        ("head.", &["language_model.lm_head.", "lm_head.", "model.language_model.lm_head."]),
        (
            "vision.",
            &["vision_tower.vision_model.", "model.vision_tower.vision_model.", "vision_tower.", "model.vision_tower."],
        ),
        ("projector.", &["multi_modal_projector.", "model.multi_modal_projector."]),
        ("newline", &["image_newline", "model.image_newline"]),
    ];
    accepted(&PREFIXES, ours)
}

/// The names that Qwen2-VL checkpoints may use for `ours`, in order of preference: the hub's (`model.layers.…`,
/// `visual.…`), which transformers writes again from 5 on, then those of its modules (`model.language_model.…`).
///
/// ```
/// let names = aircache::weights::names::qwen2_vl("vision.merger.mlp.0.weight");
/// assert_eq!(names, ["visual.merger.mlp.0.weight", "model.visual.merger.mlp.0.weight"]);
/// ```
pub fn qwen2_vl(ours: &str) -> Vec<String> {
    const PREFIXES: [(&str, &[&str]); 3] = [
        ("decoder.", &["model.", "model.language_model."]),
        ("head.", &["lm_head."]),
        ("vision.", &["visual.", "model.visual."]),
    ];
    accepted(&PREFIXES, ours)
}

/// `ours` with each prefix of theirs that stands for its own.
fn accepted(prefixes: &[(&str, &[&str])], ours: &str) -> Vec<String> {
    prefixes
        .iter()
        .find_map(|(ours_prefix, theirs)| Some((ours.strip_prefix(ours_prefix)?, theirs)))
        .map(|(rest, theirs)| theirs.iter().map(|prefix| format!("{prefix}{rest}")).collect())
        .unwrap_or_else(|| vec![ours.to_string()])
}

impl<'a> Names<'a> {
    /// The names of a family, in a checkpoint: `Names::new(&checkpoint, names::llava_onevision)`.
    pub fn new(checkpoint: &'a Checkpoint, accepted: fn(&str) -> Vec<String>) -> Self {
        Names { checkpoint, accepted, problems: None }
    }

    /// The same names for a survey: a tensor that is missing or does not fit becomes one of `problems`, and in its place
    /// comes an empty one, which nothing may compute with.
    pub(crate) fn surveying(self, problems: &'a Mutex<Vec<Error>>) -> Self {
        Names { problems: Some(problems), ..self }
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
        let found = self.checkpoint.matrix(&(self.accepted)(name), rows, cols);
        self.noted(found, || Matrix::hollow(rows, cols))
    }

    /// A convolution's kernel as a matrix: [outputs, channels · side · side].
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn kernel(&self, name: &str, outputs: usize, channels: usize, side: usize) -> Result<Matrix> {
        let found = self.checkpoint.kernel(&(self.accepted)(name), outputs, channels, side);
        self.noted(found, || Matrix::hollow(outputs, channels * side * side))
    }

    /// A kernel over time, height and width as a matrix; shape: channels, depth, side.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn kernel_3d(&self, name: &str, outputs: usize, shape: [usize; 3]) -> Result<Matrix> {
        let found = self.checkpoint.kernel_3d(&(self.accepted)(name), outputs, shape);
        self.noted(found, || Matrix::hollow(outputs, shape[0] * shape[1] * shape[2] * shape[2]))
    }

    /// A vector, widened to f32: `[len]`.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
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
