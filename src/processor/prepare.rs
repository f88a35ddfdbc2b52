//! The complete `AutoProcessor`: takes images, a prompt and an optional system turn, and returns the model's input.
//!
//! This file only connects the steps; each step has its own file. Source: transformers 5.17
//! `ProcessorMixin.apply_chat_template`, `get_text_with_replacements`. Spec: D4.4

use super::assemble::{assemble, fits};
use crate::error::{Error, Result, ensure};
use crate::family::{self, Family, Reader};
use crate::files::Files;
use crate::input::conversation::MARK;
use crate::input::dialogue::Dialogue;
use crate::input::settings::Settings;
use crate::input::{Image, Prepared, PreparedImage, Tokenizer, video};
use crate::kernel::resample::Resampler;
use std::sync::Arc;

/// A checkpoint's processor: image settings, chat template and tokenizer. Spec: D4.4
#[derive(Debug)]
pub struct Processor {
    family: Arc<dyn Family>,
    reader: Box<dyn Reader>,
    dialogue: Dialogue,
    tokenizer: Tokenizer,
    image_token: String,
    files: Files,
}

impl Processor {
    /// The processor of a checkpoint of this family.
    ///
    /// # Errors
    /// A missing or broken file, an unsupported setting, a disagreement between files. Spec: C4.12
    pub fn load(files: &Files, family: &Arc<dyn Family>) -> Result<Processor> {
        let reader = family.reader(files)?;
        let tokenizer = Tokenizer::load(files)?;
        let image_token = tokenizer.special("image_token").unwrap_or(&reader.settings().image_token).to_owned();
        let id = tokenizer.id(&image_token);
        ensure!(
            id == Some(family.image_token()),
            format!("{}: {image_token}", files.label("tokenizer.json")),
            format!("image_token_id {} of {}", family.image_token(), files.label("config.json")),
            id.map_or("no such token".into(), |id| format!("token {id}"))
        );
        let dialogue = Dialogue::load(files, family.conversation(files)?)?;
        Ok(Processor { family: family.clone(), reader, dialogue, tokenizer, image_token, files: files.clone() })
    }

    /// The same processor with another resampler. The rounding of the normalisation follows the resampler.
    pub fn with_resampler(mut self, resampler: Resampler) -> Processor {
        self.reader.settings_mut().pixels.resampler = resampler;
        self
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The image settings.
    pub fn settings(&self) -> &Settings {
        self.reader.settings()
    }

    /// How the checkpoint reads images and videos.
    pub fn reader(&self) -> &dyn Reader {
        &*self.reader
    }

    /// The rendered prompt. Images come first, unless the text places them. A text places images with the family's own
    /// placeholder, which stays unchanged, or with `<image>`, which the template replaces by its text for an image.
    /// Spec: A4.5
    ///
    /// # Errors
    /// As [`Dialogue::render`]. Spec: D4.4
    pub fn render(&self, images: usize, prompt: &str, system: Option<&str>) -> Result<String> {
        self.dialogue.render(images, prompt, system, &self.image_token, self.tokenizer.specials())
    }

    /// The ids of a rendered prompt. Fails if the model does not know an id.
    fn encode(&self, rendered: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode(rendered)?;
        let vocab = self.family.text().vocab;
        let expected = format!("ids below vocab_size {vocab} of config.json, added_tokens.json's too");
        let beyond = ids.iter().find(|&&id| id as usize >= vocab);
        beyond.map_or(Ok(()), |id| Err(Error::new(self.tokenizer.label(), expected, id)))?;
        Ok(ids)
    }

    /// The model's input, for `images` in prompt order, one question and an optional system turn.
    ///
    /// # Errors
    /// An image that fits no grid, a template that fails, a number of placeholders that differs from the number of
    /// images, a prompt longer than the model's positions. Spec: D4.4, A4.4, C4.8a, C4.8b
    pub fn prepare(&self, images: &[Image], prompt: &str, system: Option<&str>) -> Result<Prepared> {
        let rendered = self.render(images.len(), prompt, system)?;
        let marked = self.reader.marked(rendered.clone(), images.len());
        let ids = self.encode(&marked)?;
        let placeholders = ids.iter().filter(|&&id| id == self.family.image_token()).count();
        // If the text has the right number of placeholders, the tokenizer is the cause of another number of ids.
        let written = marked.matches(&self.image_token).count();
        let said = |text: &str| text.contains(&self.image_token) || text.contains(MARK);
        let (at, remedy) = match written == images.len() {
            true => (
                self.tokenizer.label().into(),
                "the tokenizer makes another number of placeholders than the prompt has".into(),
            ),
            // Neither text contains a placeholder, so only the template can have written one.
            false if !said(prompt) && !system.is_some_and(said) => {
                (self.dialogue.label(), "the template writes another number of images than there are".into())
            }
            false => ("prompt".into(), format!("write {} once for each image, or not at all", self.image_token)),
        };
        ensure!(
            placeholders == images.len(),
            at,
            format!("{} placeholders {}, one an image", images.len(), self.image_token),
            placeholders,
            remedy
        );
        // An error about "image" concerns this image, so the message names this image.
        let of = |image: &Image, e: Error| {
            if e.at == "image" { Error { at: image.label().to_owned(), ..e } } else { e.within(image.label()) }
        };
        // Count the rows before any pixel is processed: the pixels of the longest prompts would need gigabytes.
        let rows = |image: &Image| self.reader.packing(image.size(), images.len()).map(|p| p.rows.len());
        let visual: usize = images.iter().map(|i| rows(i).map_err(|e| of(i, e))).sum::<Result<usize>>()?;
        fits(self.family.text(), ids.len() - placeholders + visual, visual)?;
        let prepared = images.iter().map(|i| self.reader.prepare(i, images.len()).map_err(|e| of(i, e)));
        let prepared = prepared.collect::<Result<Vec<PreparedImage>>>()?;
        let mut out = assemble(&*self.family, &ids, prepared)?;
        out.prompt = rendered;
        out.preprocess = if images.is_empty() { "" } else { self.settings().pixels.resampler.name() }.to_owned();
        Ok(out)
    }

    /// The model's input for a video: its frames in order, all of one size. The template places the video before the
    /// question.
    ///
    /// # Errors
    /// A family that reads no videos; a vocabulary or a chat template without a placeholder for videos; otherwise as
    /// [`prepare`](Self::prepare). Spec: D4.8, E4.22, E4.23
    pub fn prepare_video(&self, frames: &[Image], prompt: &str, system: Option<&str>) -> Result<Prepared> {
        let size = video::one_size(frames)?;
        // An error about "image" concerns the frames, so the message names the first frame.
        let of = |e: Error| if e.at == "image" { Error { at: frames[0].label().to_owned(), ..e } } else { e };
        let reader = self.reader.videos().ok_or_else(|| family::reads_no_videos(&*self.family))?;
        let rows = reader.packing(frames.len(), size).map_err(of)?.rows.len();
        let Some(token) = self.family.profile().video_token else {
            let expected = "an id for videos (video_token_id) in the vocabulary";
            return Err(Error::new(self.files.label("config.json"), expected, "none"));
        };
        let rendered = self.dialogue.film(prompt, system, self.tokenizer.specials())?;
        let ids = self.encode(&rendered)?;
        let count = |token: u32| ids.iter().filter(|&&id| id == token).count();
        let (videos, images) = (count(token), count(self.family.image_token()));
        ensure!(
            (videos, images) == (1, 0),
            "prompt",
            format!("one placeholder of a video (id {token}) and none of an image"),
            format!("{videos} and {images}"),
            "the chat template writes the placeholder for {\"type\": \"video\"}; the question must not hold one"
        );
        fits(self.family.text(), ids.len() - 1 + rows, rows)?;
        let mut out = assemble(&*self.family, &ids, vec![reader.prepare(frames)?])?;
        (out.prompt, out.preprocess) = (rendered, self.settings().pixels.resampler.name().to_owned());
        Ok(out)
    }

    /// The number of prompt rows that the chat template adds after `question`: the end of the turn and the start of the
    /// answer. 0 if the prompt does not contain the question. Spec: A8.1
    pub fn tail(&self, prompt: &Prepared, question: &str) -> usize {
        // Templates may trim the question. If the question places images, its text after the last image stands before
        // the tail.
        let last = question.rsplit(MARK).next().unwrap_or(question);
        let asked = if prompt.prompt.contains(question.trim()) { question.trim() } else { last.trim() };
        let Some(start) = prompt.prompt.rfind(asked) else { return 0 };
        let Ok(tail) = self.tokenizer.encode(&prompt.prompt[start + asked.len()..]) else { return 0 };
        // Template text usually begins with a special token. If it merges with the question's last token, the merged
        // token belongs to the question.
        tail.iter().rev().zip(prompt.ids.iter().rev()).take_while(|(a, b)| a == b).count()
    }
}
