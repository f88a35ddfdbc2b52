//! Pictures of the visual tokens that a policy keeps: a page, and an overlay for papers and issues.
//!
//! One prefill serves all policies; each policy answers from its own cache. [`Packing::region`](crate::input::Packing::region)
//! gives the place of a token in the image, so the drawing is exact for every family.

mod data;
mod overlay;
mod page;

pub use overlay::{Lit, check_shown};

use crate::error::Result;
use crate::eval::{Cell, Cells, Examiner};
use crate::input::{Image, Prepared};
use crate::policy::Plan;

/// A prompt, and the decisions and answers of several policies.
#[derive(Debug)]
pub struct Explained {
    /// The name of the model.
    pub model: String,
    /// The question alone.
    pub question: String,
    /// The images in prompt order, or the frames of the video.
    pub images: Vec<Image>,
    /// The prompt as the model read it.
    pub prompt: Prepared,
    /// The text of every prompt row; empty for visual rows.
    pub words: Vec<String>,
    /// The answer with the full cache.
    pub full: String,
    /// The decision of each policy, in the order of the request.
    pub told: Vec<Told>,
}

/// The decisions of one policy, and the answer after its eviction.
#[derive(Debug)]
pub struct Told {
    /// The policy and the retention.
    pub cell: Cell,
    /// The plan: the rows that stay.
    pub plan: Plan,
    /// The answer with the evicted cache.
    pub answer: String,
}

impl Explained {
    /// Answers a prompt under all cells of an examiner and with the full cache, in f32.
    ///
    /// name: the name of the model; images: the images of the prompt, or the frames of its video; question: the
    /// question alone.
    ///
    /// # Errors
    /// A policy does not fit the prompt (A8.13); the model refuses the prompt.
    pub fn of(
        examiner: &Examiner<'_>,
        name: &str,
        images: Vec<Image>,
        (question, prompt): (&str, Prepared),
    ) -> Result<Explained> {
        let tokenizer = examiner.processor.tokenizer();
        let mut cells = Cells::parse("full", "1")?;
        cells.all.extend_from_slice(&examiner.cells.all);
        let examiner = Examiner { cells: &cells, ..*examiner };
        let mut plans = vec![None; cells.all.len()];
        let mut answers =
            examiner.try_all::<f32>(&prompt, question, |place, plan| plans[place] = Some(plan))?.into_iter();
        let full = answers.next().unwrap_or_default();
        let told = cells.all.iter().zip(plans).skip(1).zip(answers);
        let told = told.filter_map(|((cell, plan), answer)| Some(Told { cell: cell.clone(), plan: plan?, answer }));
        let told = told.collect();
        let words = prompt.ids.iter().zip(&prompt.roles.0).map(|(&id, role)| match role {
            crate::Role::Visual => Ok(String::new()),
            crate::Role::Text => match tokenizer.decode(&[id])? {
                // Special tokens, and tokens whose bytes alone are no character.
                text if text.is_empty() || text.contains('\u{fffd}') => Ok(tokenizer.token(id).unwrap_or(text)),
                text => Ok(text),
            },
        });
        let words = words.collect::<Result<_>>()?;
        let (model, question) = (name.to_string(), question.to_string());
        Ok(Explained { model, question, images, prompt, words, full, told })
    }
}
