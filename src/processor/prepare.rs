//! The complete `AutoProcessor`: takes images, a prompt and an optional system turn, and returns the model's input.
//!
//! This file only connects the steps; each step has its own file. Source: transformers 5.17
//! `ProcessorMixin.apply_chat_template`, `get_text_with_replacements`. Spec: D4.4

use super::assemble::{assemble, fits};
use crate::error::{Error, Result, ensure};
use crate::family::{Family, Reader};
use crate::files::Files;
use crate::input::conversation::MARK;
use crate::input::dialogue::Dialogue;
use crate::input::mrope::{AfterVideo, FPS};
use crate::input::template::Turn;
use crate::input::{Image, Limits, Orientation, Prepared, PreparedImage, Settings, Tokenizer};
use crate::kernel::resample::Resampler;
use std::borrow::Cow;
use std::sync::Arc;

/// A checkpoint's processor: image settings, chat template and tokenizer. Spec: D4.4
#[derive(Debug)]
pub struct Processor {
    pub(super) family: Arc<dyn Family>,
    pub(super) reader: Box<dyn Reader>,
    pub(super) dialogue: Dialogue,
    pub(super) tokenizer: Tokenizer,
    image_token: String,
    pub(super) files: Files,
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

    /// The same processor with another choice about turned pictures. Spec: D4.10
    pub fn with_orientation(mut self, orientation: Orientation) -> Processor {
        self.reader.settings_mut().orientation = orientation;
        self
    }

    /// The same processor with another place of the text after a video. Spec: A4.8
    pub fn with_after_video(mut self, after: AfterVideo) -> Processor {
        self.reader.settings_mut().after_video = after;
        self
    }

    /// The same processor for videos of so many frames a second. Spec: D4.15
    pub fn with_fps(mut self, fps: f64) -> Processor {
        self.reader.settings_mut().fps = fps;
        self
    }

    /// The same processor with a colour behind pictures with alpha. Spec: D4.11
    pub fn with_background(mut self, background: [u8; 3]) -> Processor {
        self.reader.settings_mut().background = Some(background);
        self
    }

    /// The same processor with other limits of an image's size.
    ///
    /// # Errors
    /// The family's processor has no such limit, or the limits contradict each other. Spec: D4.12
    pub fn with_limits(mut self, limits: Limits) -> Result<Processor> {
        self.reader.limit(limits)?;
        Ok(self)
    }

    /// An image as the model sees it: turned, and over the background, as the settings say. Spec: D4.10, D4.11
    pub fn seen<'a>(&self, image: &'a Image) -> Cow<'a, Image> {
        let Settings { orientation, background, .. } = self.settings();
        let turned = *orientation == Orientation::Exif && image.orientation() != 1;
        let over = background.filter(|_| image.has_alpha());
        if !turned && over.is_none() {
            return Cow::Borrowed(image);
        }
        let image = if turned { image.clone().upright() } else { image.clone() };
        Cow::Owned(over.map_or_else(|| image.clone(), |colour| image.clone().over(colour)))
    }

    /// What was done with the images, for the bundle: the resampler, and each choice that changes these pixels.
    pub(super) fn preprocess(&self, images: &[Image]) -> String {
        let Settings { pixels, orientation, background, limits, fps, .. } = self.settings();
        let mut words = vec![pixels.resampler.name().to_owned()];
        if images.iter().any(|image| image.orientation() != 1) {
            words.push(format!("orientation {}", orientation.name()));
        }
        if let Some([r, g, b]) = background.filter(|_| images.iter().any(Image::has_alpha)) {
            words.push(format!("background #{r:02x}{g:02x}{b:02x}"));
        }
        words.extend(limits.named().map(|(name, limit)| format!("{name} {limit}")));
        words.extend((*fps != FPS).then(|| format!("fps {fps}")));
        words.join("; ")
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
    pub(super) fn encode(&self, rendered: &str) -> Result<Vec<u32>> {
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
        // The template of a base checkpoint takes parts, not turns, and writes nothing.
        let heard = !rendered.trim().is_empty() || prompt.trim().is_empty();
        let remedy = "a base checkpoint has no turns: give the prompt as it is, with --raw-prompt";
        ensure!(heard, self.dialogue.label(), "a template that writes the question", "one that writes nothing", remedy);
        self.prepared(&*self.reader, images, rendered, &[prompt, system.unwrap_or_default()])
    }

    /// The model's input for a prompt as it is: no template is applied. An image stands where the prompt has the text
    /// that stands for an image in the family's rendered prompts.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare). Spec: D4.13
    pub fn prepare_raw(&self, images: &[Image], prompt: &str) -> Result<Prepared> {
        let mark = self.reader.mark();
        let marks = prompt.matches(mark).count();
        let remedy =
            format!("write {mark} where an image stands, with the marks that the model was trained with around it");
        ensure!(marks == images.len(), "prompt", format!("{} times {mark}, one an image", images.len()), marks, remedy);
        self.prepared(&*self.reader, images, prompt.to_owned(), &[prompt])
    }

    /// The model's input for a conversation of several turns, which place the images.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), and as [`Dialogue::converse`]. Spec: D4.14
    pub fn prepare_turns(&self, images: &[Image], turns: &[Turn<'_>]) -> Result<Prepared> {
        let rendered = self.dialogue.converse(turns, self.tokenizer.specials())?;
        self.prepared(&*self.reader, images, rendered, &[])
    }

    /// The model's input for a rendered prompt, with images as `reader` reads them. `texts`: what the user wrote of it.
    pub(super) fn prepared(
        &self,
        reader: &dyn Reader,
        images: &[Image],
        rendered: String,
        texts: &[&str],
    ) -> Result<Prepared> {
        let marked = reader.marked(rendered.clone(), images.len());
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
            false if !texts.iter().any(|text| said(text)) => {
                (self.dialogue.label(), "the template writes another number of images than there are".into())
            }
            false => ("prompt".into(), format!("write {MARK} once for each image, or not at all")),
        };
        ensure!(
            placeholders == images.len(),
            at,
            format!("{} placeholders {}, one an image", images.len(), self.image_token),
            placeholders,
            remedy
        );
        let seen: Vec<Cow<'_, Image>> = images.iter().map(|image| self.seen(image)).collect();
        // An error about "image" concerns this image, so the message names this image.
        let of = |image: &Image, e: Error| {
            if e.at == "image" { Error { at: image.label().to_owned(), ..e } } else { e.within(image.label()) }
        };
        // Count the rows before any pixel is processed: the pixels of the longest prompts would need gigabytes.
        let rows = |image: &Image| reader.packing(image.size(), images.len()).map(|p| p.rows.len());
        let visual: usize = seen.iter().map(|i| rows(i).map_err(|e| of(i, e))).sum::<Result<usize>>()?;
        fits(self.family.text(), ids.len() - placeholders + visual, visual)?;
        let prepared = seen.iter().map(|i| reader.prepare(i, images.len()).map_err(|e| of(i, e)));
        let prepared = prepared.collect::<Result<Vec<PreparedImage>>>()?;
        let mut out = assemble(&*self.family, &ids, prepared)?;
        out.prompt = rendered;
        out.preprocess = if images.is_empty() { String::new() } else { self.preprocess(images) };
        Ok(out)
    }

    /// The number of prompt rows that the chat template adds after `question`: the end of the turn and the start of the
    /// answer. 0 for a prompt as it is. Spec: A8.1
    pub fn tail(&self, prompt: &Prepared, question: &str) -> usize {
        // A prompt as it is has no tail. If an image stands last, no row of the question stands behind it.
        if prompt.prompt == question {
            return 0;
        }
        if [MARK, self.reader.mark()].iter().any(|mark| question.trim_end().ends_with(mark)) {
            return prompt.roles.visual().last().map_or(0, |last| prompt.ids.len() - 1 - last);
        }
        // The tail does not depend on the question, so any other text shows it.
        const OTHER: &str = "aircache";
        let probe = self.render(0, OTHER, None).unwrap_or_default();
        let Some((_, tail)) = probe.rsplit_once(OTHER).filter(|(_, tail)| prompt.prompt.ends_with(tail)) else {
            return 0;
        };
        let Ok(tail) = self.tokenizer.encode(tail) else { return 0 };
        // Template text usually begins with a special token. If it merges with the question's last token, the merged
        // token belongs to the question.
        tail.iter().rev().zip(prompt.ids.iter().rev()).take_while(|(a, b)| a == b).count()
    }
}
