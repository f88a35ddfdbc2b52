//! 250 questions on the sample images, with the answers of transformers.

use serde::Deserialize;
use std::sync::LazyLock;

/// A question on a sample image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Question {
    /// The image's path: `samples/00.png`.
    pub image: String,
    /// The text of the question, as it stands in the prompt.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// The kind of the question: `field`, `table`, `box`, `pos`, `color`, `all` …
    pub kind: String,
    /// The system turn, if any.
    pub system: Option<String>,
    /// The number of prompt rows that come from the image.
    pub visual_tokens: usize,
    /// The number of prompt rows.
    pub prompt_tokens: usize,
    /// The greedy answer of transformers (float32, eager attention, CPU, full cache).
    pub hf_output: String,
    /// True if `hf_output` is the right answer.
    pub correct: bool,
}

impl Question {
    /// The image's file name: `00.png`.
    pub fn sample(&self) -> &str {
        self.image.rsplit('/').next().unwrap_or(&self.image)
    }
}

static QUESTIONS: LazyLock<Vec<Question>> = LazyLock::new(|| {
    let lines = include_str!("questions.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("demo/questions.jsonl: {e}"))).collect()
});

/// All questions, in the order of the images.
pub fn questions() -> &'static [Question] {
    &QUESTIONS
}
