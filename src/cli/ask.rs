//! Options of the input: the model, the images and the prompt; without any of them, a bundled question.

use super::memory;
use super::out::Messages;
use super::places::Read;
use super::seeing::Seeing;
use aircache::demo;
use aircache::files::Files;
use aircache::input::frames::Chosen;
use aircache::input::messages::Messages as Spoken;
use aircache::input::{Image, Prepared};
use aircache::model::Model;
use aircache::policy::Policy;
use aircache::processor::Processor;
use aircache::{Error, Result};
use std::path::PathBuf;

/// The default question: its index in the list of bundled questions.
const DEFAULT_QUESTION: usize = 105;

/// Options of the input.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Input")]
pub struct Ask {
    /// A Hugging Face checkpoint folder; `demo` is the embedded model, unless a folder has this name [default: demo]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// An image file; repeat the option for several images, in order
    #[arg(long, value_name = "FILE", conflicts_with = "sample")]
    pub image: Vec<PathBuf>,
    /// The frames of a video in order, or a folder of frames, ordered by name; all frames have one size
    #[arg(long, value_name = "FRAME", num_args = 1.., conflicts_with_all = ["sample", "image"])]
    pub video: Vec<PathBuf>,
    /// The question; the model's chat template puts it after the images; write <image> in it to place an image yourself
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// The text of a system turn before the question
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// A bundled image instead of a file, 00 to 39; without --prompt, the first bundled question on it is asked
    #[arg(long, value_name = "NN")]
    pub sample: Option<String>,
    /// Takes --prompt as it is: no chat template; the prompt itself has the model's marks where images stand
    #[arg(long, requires = "prompt", conflicts_with_all = ["system", "sample", "video"])]
    pub raw_prompt: bool,
    /// A conversation of several turns: a JSON list of {"role", "content"}, content a text or parts of text and image
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "system", "sample", "video"])]
    pub messages: Option<PathBuf>,
    #[command(flatten)]
    pub seeing: Seeing,
}

/// A loaded model, and its question.
pub struct Asked {
    /// The model.
    pub model: Model,
    /// Its processor.
    pub processor: Processor,
    /// The images in prompt order, or the frames of the video, as the model sees them.
    pub images: Vec<Image>,
    /// The frames that are read, if there is a video.
    pub frames: Option<Chosen>,
    /// The prompt that the model reads.
    pub prompt: Prepared,
    /// The question alone.
    pub question: String,
    /// The name of the model in messages.
    pub name: String,
}

impl Ask {
    /// The files of the checkpoint, and its name in messages.
    pub fn files(model: Option<&PathBuf>) -> (Files, String) {
        match model.filter(|dir| dir.as_os_str() != "demo" || dir.exists()) {
            Some(dir) => (Files::Folder(dir.clone()), dir.display().to_string()),
            None => (demo::files(), "the embedded demo model".into()),
        }
    }

    /// The input files of the command.
    pub fn read(&self) -> Read {
        let files = self.image.iter().chain(&self.video).chain(&self.messages);
        Read::new().model(self.model.as_ref()).files(files)
    }

    /// Loads the model and prepares the prompt.
    ///
    /// # Errors
    /// Anything wrong with the checkpoint, the images or the prompt.
    pub fn load(&self, messages: Messages) -> Result<Asked> {
        self.loaded(messages, false)
    }

    /// As [`load`](Self::load), with what other decoders make of lossy images. Spec: D4.18
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_decoders(&self, messages: Messages) -> Result<Asked> {
        self.loaded(messages, true)
    }

    fn loaded(&self, messages: Messages, decoders: bool) -> Result<Asked> {
        let spoken = self.messages.as_deref().map(Spoken::read).transpose()?;
        let (mut images, question, system) = match &spoken {
            Some(spoken) => (spoken.images(&self.image)?, spoken.question(), None),
            None => self.question(messages)?,
        };
        let (model, processor, name) = self.load_model(messages)?;
        let mut frames = None;
        if !self.video.is_empty() {
            let (read, chosen) = processor.film(&self.video).map_err(at_frames)?;
            self.seeing.note_frames(&chosen, messages);
            (images, frames) = (read, Some(chosen));
        }
        let prepare = |images: &[Image]| match (&spoken, self.raw_prompt, &frames) {
            (Some(spoken), ..) => processor.prepare_turns(images, &spoken.turns()),
            (None, true, _) => processor.prepare_raw(images, &question),
            (None, false, None) => processor.prepare(images, &question, system.as_deref()),
            (None, false, Some(chosen)) => processor.prepare_film(images, chosen, &question, system.as_deref()),
        };
        let mut prompt = prepare(&images)?;
        if decoders {
            prompt = processor.with_decoders(&images, prompt, prepare)?;
        }
        memory::check(&name, model.forecast(Some(&prompt)))?;
        self.seeing.notes(&processor, &images, messages);
        if spoken.is_none() && !self.raw_prompt && !images.is_empty() && question.contains("<image>") {
            messages.note("note: <image> in the prompt is the place of a picture".into());
        }
        let images = images.into_iter().map(|image| processor.seen(&image).into_owned()).collect();
        Ok(Asked { model, processor, images, frames, prompt, question, name })
    }

    /// Loads the model and its processor, and gives its name in messages.
    ///
    /// # Errors
    /// Anything wrong with the checkpoint.
    pub fn load_model(&self, messages: Messages) -> Result<(Model, Processor, String)> {
        let (files, name) = Self::files(self.model.as_ref());
        let _busy = messages.busy(&format!("loading {name}"));
        let model = memory::load(&files)?;
        let processor = self.seeing.apply(Processor::load(&files, &model.config)?)?;
        Ok((model, processor, name))
    }

    /// The images, the question and the system turn.
    fn question(&self, messages: Messages) -> Result<(Vec<Image>, String, Option<String>)> {
        if self.image.is_empty() && self.video.is_empty() && (self.sample.is_some() || self.prompt.is_none()) {
            return self.sample(messages);
        }
        let images = Image::all(&self.image)?;
        Image::unfolded(&self.video)?;
        let Some(prompt) = self.prompt.clone() else {
            return Err(Error::new("--prompt", "a question about the image", "none"));
        };
        if images.is_empty() && self.video.is_empty() {
            messages.note("note: no --image and no --video, so the model reads text only".into());
        }
        Ok((images, prompt, self.system.clone()))
    }

    /// A bundled image and, unless there is a prompt, a bundled question on it.
    fn sample(&self, messages: Messages) -> Result<(Vec<Image>, String, Option<String>)> {
        let questions = demo::questions();
        let asked = match &self.sample {
            None => questions.get(DEFAULT_QUESTION),
            Some(name) => {
                let Some(sample) = demo::sample(name) else {
                    return Err(Error::new("--sample", "00 to 39, as --list-samples shows them", format!("{name:?}")));
                };
                questions.iter().find(|q| q.sample() == sample.name)
            }
        };
        let image = asked.and_then(|q| demo::sample(q.sample()));
        let (Some(asked), Some(image)) = (asked, image) else {
            return Err(Error::new("--sample", "a bundled image that has a question", "none").remedy("give --prompt"));
        };
        let picture = Image::from_bytes(image.png, &format!("bundled image {}", image.name))?;
        let system = || if self.prompt.is_none() { asked.system.clone() } else { None };
        let question = self.prompt.clone().unwrap_or_else(|| asked.question.clone());
        messages.note(format!("bundled image {}: {question}", image.name));
        Ok((vec![picture], question, self.system.clone().or_else(system)))
    }
}

impl Asked {
    /// The policy, adjusted to the number of prompt rows after the question; only the chat template determines this
    /// number.
    pub fn fitted(&self, policy: Policy) -> Policy {
        policy.with_tail(self.processor.tail(&self.prompt, &self.question))
    }
}

/// Converts an error about the choice of frames into an error about the option.
fn at_frames(e: Error) -> Error {
    if e.at == "frames" { Error { at: "--frames".into(), ..e } } else { e }
}
