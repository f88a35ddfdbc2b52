//! The question file: JSON lines with image, question, accepted answers.

use crate::error::{Error, Result, ensure};
use crate::files::read_text;
use crate::input::image::{MAX_IMAGES, MAX_PIXELS};
use crate::input::messages::Messages;
use crate::input::{Image, Prepared};
use crate::processor::Processor;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// The largest size of a question file: some 600,000 questions.
const MAX_BYTES: u64 = 64 << 20;
/// The largest size of a line: longer than any prompt.
const MAX_LINE: usize = 4 << 20;

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The images, in prompt order; empty for a question about text alone or about a video.
    pub images: Vec<PathBuf>,
    /// The frames of a video in order, or folders of frames; empty for a question about images.
    pub video: Vec<PathBuf>,
    /// The text of the question.
    pub question: String,
    /// The accepted answers; empty if the file gives none.
    pub answers: Vec<String>,
    /// The system turn, if any.
    pub system: Option<String>,
    /// The kind of the question, if the file gives it.
    pub kind: Option<String>,
    /// The questions that some metrics count as one: those of this name.
    pub group: Option<String>,
    /// Letter and text of each option of a multiple choice.
    pub options: Vec<(char, String)>,
    /// A conversation of several turns, instead of a question.
    pub messages: Option<Messages>,
    /// All fields of the line, for the prompts of recipes.
    pub fields: Map<String, Value>,
}

/// A question file, read and checked.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The path of the file, for messages.
    pub label: String,
    /// sha-256 of the file.
    pub sha256: String,
    /// The questions, in the file's order.
    pub items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(v: OneOrMany) -> Self {
        match v {
            OneOrMany::One(s) => vec![s],
            OneOrMany::Many(all) => all,
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Line {
    image: Option<OneOrMany>,
    video: Option<OneOrMany>,
    question: Option<String>,
    messages: Option<Value>,
    answer: Option<OneOrMany>,
    system: Option<String>,
    kind: Option<String>,
    group: Option<Group>,
    options: Option<Options>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a whole number")]
enum Group {
    Name(String),
    Number(i64),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of texts, or an object {\"A\": text, …}")]
enum Options {
    Texts(Vec<String>),
    Letters(BTreeMap<char, String>),
}

impl From<Options> for Vec<(char, String)> {
    fn from(options: Options) -> Self {
        match options {
            Options::Texts(texts) => ('A'..='Z').zip(texts).collect(),
            Options::Letters(letters) => letters.into_iter().collect(),
        }
    }
}

impl Item {
    /// The prompt of this question, as the model reads it.
    ///
    /// # Errors
    /// An image or a frame cannot be read; as [`Processor::prepare`] and [`Processor::prepare_film`].
    pub fn prepare(&self, processor: &Processor) -> Result<Prepared> {
        let system = self.system.as_deref();
        if let Some(messages) = &self.messages {
            return processor.prepare_turns(&messages.images(&self.images)?, &messages.turns());
        }
        if !self.video.is_empty() {
            let (frames, chosen) = processor.film(&self.video)?;
            return processor.prepare_film(&frames, &chosen, &self.question, system);
        }
        processor.prepare(&Image::all(&self.images)?, &self.question, system)
    }

    /// The pictures and frames of the question.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.images.iter().chain(&self.video).chain(self.messages.iter().flat_map(Messages::files))
    }

    /// The pictures that are opened, if the film can be listed.
    fn read(&self, processor: &Processor) -> Vec<PathBuf> {
        let film = match self.video.is_empty() {
            true => vec![],
            false => processor.film_files(&self.video).map_or(vec![], |(files, _)| files),
        };
        let others = self.images.iter().chain(self.messages.iter().flat_map(Messages::files));
        others.cloned().chain(film).collect()
    }

    /// Divides questions into groups whose pictures may be decoded side by side: a group has few large pictures or many
    /// small pictures.
    ///
    /// # Errors
    /// The header of a picture is incomplete.
    pub fn side_by_side<'t, 'i, T>(
        items: &'t [T],
        of: impl Fn(&T) -> &'i Item,
        processor: &Processor,
    ) -> Result<Vec<&'t [T]>> {
        let (mut runs, mut start, mut together) = (Vec::new(), 0, 0);
        for (i, item) in items.iter().enumerate() {
            let pixels = Image::pixels(&of(item).read(processor))?;
            together += pixels;
            if together > MAX_PIXELS && i > start {
                runs.push(&items[start..i]);
                (start, together) = (i, pixels);
            }
        }
        runs.push(&items[start..]);
        Ok(runs)
    }
}

impl Questions {
    /// Reads a file of JSON lines. Image paths are relative to the file. Blank lines are skipped.
    ///
    /// # Errors
    /// The file cannot be read, a line does not follow the format, or an image does not exist. The message names the
    /// line.
    pub fn read(path: &Path) -> Result<Questions> {
        Self::lines(path, true)
    }

    /// Like [`read`](Self::read), for questions without known answers.
    ///
    /// # Errors
    /// As [`read`](Self::read), except that a missing answer is no error.
    pub fn read_open(path: &Path) -> Result<Questions> {
        Self::lines(path, false)
    }

    fn lines(path: &Path, answered: bool) -> Result<Questions> {
        let bytes = read_text(path, "a readable file of JSON lines", MAX_BYTES)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| Error::new(path.display(), "JSON lines in UTF-8", e))?;
        // Editors of some systems write a byte-order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let folder = path.parent().unwrap_or(Path::new(""));
        let (mut items, mut there) = (Vec::new(), HashSet::new());
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let at = || format!("{}: line {}", path.display(), i + 1);
            ensure!(line.len() <= MAX_LINE, at(), format!("a line of at most {MAX_LINE} bytes"), line.len());
            let unreadable = |e| {
                Error::new(at(), "an object with \"image\", \"question\" and \"answer\"", e)
                    .remedy("write one JSON object on each line; \"answer\" is a string or a list of accepted strings")
            };
            let fields = serde_json::from_str(line);
            let line: Line = serde_json::from_str(line).map_err(unreadable)?;
            let fields: Map<String, Value> = fields.map_err(unreadable)?;
            let answers: Vec<String> = line.answer.map_or(vec![], Vec::from);
            ensure!(
                !answered || !answers.is_empty(),
                format!("{}: answer", at()),
                "at least one accepted string",
                "none"
            );
            let mut pictures = |field: &str, files: Option<OneOrMany>, what: &str, is: fn(&Path) -> bool| {
                let files = files.map_or(vec![], Vec::from);
                let at = || format!("{}: {field}", at());
                ensure!(files.len() <= MAX_IMAGES, at(), format!("at most {MAX_IMAGES} files"), files.len());
                let files: Vec<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
                for file in &files {
                    // Each file is checked once, because many questions use the same picture.
                    if !there.contains(file) {
                        ensure!(is(file), at(), what, file.display());
                        there.insert(file.clone());
                    }
                }
                Ok(files)
            };
            let images = pictures("image", line.image, "an image file", Path::is_file)?;
            let video = pictures("video", line.video, "a frame, or a folder of them", Path::exists)?;
            ensure!(images.is_empty() || video.is_empty(), at(), "\"image\" or \"video\"", "both");
            let messages = line.messages.map(|value| Messages::of(&value, folder, format!("{}: messages", at())));
            let messages = messages.transpose()?;
            let asked = match &messages {
                Some(messages) => {
                    let alone = line.question.is_none() && line.system.is_none() && video.is_empty();
                    ensure!(alone, at(), "\"messages\", or \"question\", \"system\" and \"video\"", "both");
                    messages.files().try_for_each(|file| {
                        ensure!(file.is_file(), format!("{}: messages", at()), "an image file", file.display());
                        Ok(())
                    })?;
                    Some(messages.question())
                }
                None => line.question,
            };
            let Some(question) = asked else {
                return Err(unreadable(serde::de::Error::missing_field("question")));
            };
            items.push(Item {
                images,
                video,
                question,
                answers,
                system: line.system,
                kind: line.kind,
                group: line.group.map(|group| match group {
                    Group::Name(name) => name,
                    Group::Number(number) => number.to_string(),
                }),
                options: line.options.map_or(vec![], Vec::from),
                messages,
                fields,
            });
        }
        ensure!(!items.is_empty(), path.display(), "at least one question", "none");
        let sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        Ok(Questions { label: path.display().to_string(), sha256, items })
    }
}
