//! The input side of `inspect`: tokenizer, chat template and image settings, each checked alone, then
//! together on a small prompt.

use aircache::Error;
use aircache::family::Family;
use aircache::files::Files;
use aircache::input::dialogue::Dialogue;
use aircache::input::{Image, Tokenizer};
use aircache::processor::Processor;
use std::sync::Arc;

/// Sizes (height, width) whose cost is reported.
const SIZES: [(usize, usize); 5] = [(224, 224), (480, 640), (768, 1024), (1080, 1920), (1754, 1240)];

/// The findings.
#[derive(Default)]
pub struct Reading {
    /// The place of the chat template.
    pub template: Option<String>,
    /// The problems.
    pub problems: Vec<Error>,
    /// The notes.
    pub notes: Vec<String>,
    /// How an image becomes prompt rows.
    pub images: Option<String>,
    /// The tokens of images of a few sizes (height, width).
    pub costs: Vec<((usize, usize), usize)>,
    /// How a video becomes prompt rows, in families that read videos.
    pub video: Option<String>,
    /// The tokens of videos of one frame and of two frames, of a few sizes (height, width).
    pub frames: Vec<((usize, usize), [usize; 2])>,
    tokenizer: Option<Tokenizer>,
}

impl Reading {
    /// The text of a token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.as_ref()?.token(id)
    }

    /// The value, or none; an error becomes a problem.
    fn noted<V>(&mut self, found: aircache::Result<V>) -> Option<V> {
        found.map_err(|e| self.problems.push(e)).ok()
    }
}

/// Checks all parts; with a configuration, also that they agree with it.
pub fn look(files: &Files, family: Option<&Arc<dyn Family>>) -> Reading {
    let mut reading = Reading::default();
    let tokenizer = Tokenizer::load(files);
    reading.tokenizer = reading.noted(tokenizer);
    let named = family.map_or(Ok(None), |family| family.conversation(files));
    let dialogue = named.and_then(|named| Dialogue::load(files, named));
    reading.template = reading.noted(dialogue).map(|d| d.label());
    let Some(family) = family else { return reading };
    let reader = family.reader(files);
    if let Some(reader) = reading.noted(reader) {
        let resampler = reader.settings().pixels.resampler.name();
        reading.notes.push(format!("images are resized with the arithmetic of {resampler} (--resampler changes it)"));
        reading.images = Some(reader.line());
        let cost = |size| Some((size, reader.packing(size, 1).ok()?.rows.len()));
        reading.costs = SIZES.into_iter().filter_map(cost).collect();
        match reader.videos().map(|videos| videos.line()).transpose() {
            Ok(line) => reading.video = line,
            Err(e) => reading.notes.push(format!("videos cannot be read: {e}")),
        }
        let rows = |size, frames| Some(reader.videos()?.packing(frames, size).ok()?.rows.len());
        let cost = |size| Some((size, [rows(size, 1)?, rows(size, 2)?]));
        reading.frames = SIZES.into_iter().filter_map(cost).collect();
    }
    if reading.problems.is_empty() {
        let tried = Processor::load(files, family).and_then(|processor| try_out(&processor));
        reading.noted(tried);
    }
    reading
}

/// Prepares a small prompt, as `run` would.
fn try_out(processor: &Processor) -> aircache::Result<()> {
    let grey = Image::from_rgb(48, 64, vec![128; 3 * 48 * 64])?;
    processor.prepare(&[grey], "What does it say?", None).map(drop)
}
