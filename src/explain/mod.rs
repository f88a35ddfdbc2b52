//! Which visual tokens a policy kept, in pictures: a page that explains itself, and an overlay for papers and issues.
//!
//! One prefill serves all policies; each answers from its own cache. Where a token lies in the image comes from
//! [`Packing::region`](crate::input::Packing::region), so what is drawn is exact for every family.

mod data;
mod overlay;
mod page;

pub use overlay::Lit;

use crate::error::Result;
use crate::eval::{Cell, Grid};
use crate::generate::{self, Until};
use crate::input::{Image, Prepared, Processor};
use crate::model::Model;
use crate::num::Real;
use crate::pass::Pass;
use crate::policy::{Plan, Scorer};

/// A prompt, and what policies made of it.
#[derive(Debug)]
pub struct Explained {
    /// What the model is called.
    pub model: String,
    /// The question alone.
    pub question: String,
    /// The images, in prompt order.
    pub images: Vec<Image>,
    /// What the model read.
    pub prompt: Prepared,
    /// The text of every prompt row; empty for visual ones.
    pub words: Vec<String>,
    /// The answer from the whole cache.
    pub full: String,
    /// What each policy decided, in the order asked for.
    pub told: Vec<Told>,
}

/// What one policy decided, and the answer after eviction.
#[derive(Debug)]
pub struct Told {
    /// The policy and the retention.
    pub cell: Cell,
    /// What stays.
    pub plan: Plan,
    /// The answer from what stays.
    pub answer: String,
}

/// What to explain.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The model, and what to call it.
    pub model: (&'a Model, &'a str),
    /// What made the prompt.
    pub processor: &'a Processor,
    /// The images, in prompt order.
    pub images: Vec<Image>,
    /// The question, and the prompt it became.
    pub prompt: (&'a str, Prepared),
    /// The policies and retentions.
    pub grid: &'a Grid,
    /// When answers end.
    pub until: Until,
}

impl Explained {
    /// Runs the prompt once, plans for every cell, and answers from the whole cache and from each plan's.
    ///
    /// # Errors
    /// A policy that does not fit the prompt (A8.13); whatever the model refuses.
    pub fn of<T: Real>(asked: Asked<'_>, pass: &mut Pass<'_, T>) -> Result<Explained> {
        let ((model, name), (question, prompt)) = (asked.model, asked.prompt);
        let tokenizer = asked.processor.tokenizer();
        let tail = asked.processor.tail(&prompt, question);
        let cells = asked.grid.cells.iter().cloned().map(|cell| Cell { policy: cell.policy.with_tail(tail), ..cell });
        let cells: Vec<Cell> = cells.collect();
        let policies: Vec<_> = cells.iter().map(|cell| cell.policy).collect();
        let prefilled = generate::prefill(model, pass, &prompt, &policies)?;
        let text = model.config.text();
        let mut plans = vec![Plan::full(&prompt.roles, text.layers, text.kv_heads)];
        for cell in &cells {
            let scorer = Scorer::new(&cell.policy, &prompt.roles)?;
            plans.push(scorer.decide(cell.fraction, &prefilled.scores(&scorer)?));
        }
        let caches = plans.iter().map(|plan| prefilled.cache.picked(&plan.kept)).collect();
        let answers = generate::decode_batch(model, pass, &prefilled, caches, &asked.until)?;
        let mut answers = answers.iter().map(|ids| tokenizer.decode(ids)).collect::<Result<Vec<_>>>()?.into_iter();
        let full = answers.next().unwrap_or_default();
        let told = cells.into_iter().zip(plans.into_iter().skip(1)).zip(answers);
        let told = told.map(|((cell, plan), answer)| Told { cell, plan, answer }).collect();
        let words = prompt.ids.iter().zip(&prompt.roles.0).map(|(&id, role)| match role {
            crate::Role::Visual => Ok(String::new()),
            crate::Role::Text => match tokenizer.decode(&[id])? {
                // Special tokens, and bytes that are no character by themselves.
                text if text.is_empty() || text.contains('\u{fffd}') => Ok(tokenizer.token(id).unwrap_or(text)),
                text => Ok(text),
            },
        });
        let words = words.collect::<Result<_>>()?;
        let (model, question) = (name.to_string(), question.to_string());
        Ok(Explained { model, question, images: asked.images, prompt, words, full, told })
    }

    /// The page: one HTML file that loads nothing.
    ///
    /// # Errors
    /// An image that cannot be encoded.
    pub fn page(&self) -> Result<String> {
        page::page(self)
    }
}
