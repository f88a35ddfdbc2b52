//! A file of messages, in the forms that transformers' and OpenAI's clients take.
//!
//! Source: transformers 5.17 `apply_chat_template`; OpenAI's chat completions. Spec: D4.14

use super::conversation::MARK;
use super::image::{Image, MAX_IMAGES};
use super::template::{Part, Turn};
use crate::error::{Error, Result, ensure};
use crate::files::read_text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The largest size of a file of messages: pictures may stand inside.
const MAX_BYTES: u64 = 256 << 20;
/// The most turns.
const MAX_TURNS: usize = 4096;

/// A conversation: turns, and the pictures that they place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages {
    turns: Vec<(String, Vec<Said>)>,
    label: String,
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Text(String),
    Image(Source),
}

/// Where a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The next picture that the caller has.
    Next,
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Messages {
    /// Reads a file: a list of `{"role", "content"}`, or an object that has this list as `messages`. Picture files are
    /// relative to the file.
    ///
    /// # Errors
    /// The file cannot be read, or a turn or a part has another form; the message names its place. Spec: D4.14
    pub fn read(path: &Path) -> Result<Messages> {
        let label = path.display().to_string();
        let bytes = read_text(path, "a readable file of messages", MAX_BYTES)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| Error::new(&label, "JSON in UTF-8", e))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value: Value = serde_json::from_str(text).map_err(|e| Error::new(&label, "JSON", e))?;
        Self::of(value.get("messages").unwrap_or(&value), path.parent().unwrap_or(Path::new("")), label)
    }

    /// A list of `{"role", "content"}` that stands in another file; picture files are relative to `folder`, and `label`
    /// names the place in messages.
    ///
    /// # Errors
    /// As [`read`](Self::read). Spec: D4.14
    pub fn of(value: &Value, folder: &Path, label: String) -> Result<Messages> {
        let list = value.as_array();
        let list = list.ok_or_else(|| Error::new(&label, "a list of {\"role\", \"content\"}", "another JSON value"))?;
        ensure!((1..=MAX_TURNS).contains(&list.len()), &label, format!("1 to {MAX_TURNS} turns"), list.len());
        let turn = |(i, value): (usize, &Value)| {
            turn(value, folder).map_err(|e| e.within(format!("{label}: message {}", i + 1)))
        };
        let turns = list.iter().enumerate().map(turn).collect::<Result<Vec<_>>>()?;
        let messages = Messages { turns, label };
        let count = messages.sources().count();
        ensure!(count <= MAX_IMAGES, &messages.label, format!("at most {MAX_IMAGES} pictures"), count);
        Ok(messages)
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.turns.iter().flat_map(|(_, parts)| parts).filter_map(|part| match part {
            Said::Image(source) => Some(source),
            Said::Text(_) => None,
        })
    }

    /// The picture files that the messages name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.sources().filter_map(|source| match source {
            Source::File(path) => Some(path),
            _ => None,
        })
    }

    /// The pictures in order. `given` are those of the caller, for parts that name none.
    ///
    /// # Errors
    /// A picture cannot be read; there are more or fewer pictures of the caller than parts that name none.
    pub fn images(&self, given: &[PathBuf]) -> Result<Vec<Image>> {
        let open = self.sources().filter(|source| **source == Source::Next).count();
        let expected = format!("{open} pictures of the caller, one for each image part that names no file");
        ensure!(open == given.len(), &self.label, expected, given.len(), "--image FILE gives one");
        let mut given = given.iter();
        let files: Vec<PathBuf> = self
            .sources()
            .filter_map(|source| match source {
                Source::Next => given.next().cloned(),
                Source::File(path) => Some(path.clone()),
                Source::Bytes(_) => None,
            })
            .collect();
        let mut files = Image::all(&files)?.into_iter();
        let image = |(i, source): (usize, &Source)| match source {
            Source::Bytes(bytes) => Image::from_bytes(bytes, &format!("{}: picture {}", self.label, i + 1)).map(Some),
            _ => Ok(files.next()),
        };
        let images = self.sources().enumerate().map(image).collect::<Result<Vec<_>>>()?;
        Ok(images.into_iter().flatten().collect())
    }

    /// The turns, for the template.
    pub fn turns<'a>(&'a self) -> Vec<Turn<'a>> {
        let part = |said: &'a Said| match said {
            Said::Text(text) => Part::Text(text),
            Said::Image(_) => Part::Image,
        };
        let turn = |(role, said): &'a (String, Vec<Said>)| Turn { role, content: said.iter().map(part).collect() };
        self.turns.iter().map(turn).collect()
    }

    /// What the last turn says; an image is `<image>`.
    pub fn question(&self) -> String {
        let said = self.turns.last().map_or(&[][..], |(_, said)| said);
        said.iter()
            .map(|said| match said {
                Said::Text(text) => text.as_str(),
                Said::Image(_) => MARK,
            })
            .collect()
    }
}

/// Reads one turn.
fn turn(value: &Value, folder: &Path) -> Result<(String, Vec<Said>)> {
    let role = value.get("role").and_then(Value::as_str);
    let role = role.ok_or_else(|| Error::new("role", "system, user or assistant", "none"))?;
    let parts = match value.get("content") {
        Some(Value::String(text)) => vec![Said::Text(text.clone())],
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(i, part)| said(part, folder).map_err(|e| e.within(format!("part {}", i + 1))))
            .collect::<Result<Vec<_>>>()?,
        _ => return Err(Error::new("content", "a text, or a list of parts", "another value, or none")),
    };
    Ok((role.to_owned(), parts))
}

/// Reads one part of a turn.
fn said(value: &Value, folder: &Path) -> Result<Said> {
    let string = |key: &str| value.get(key).and_then(Value::as_str);
    match string("type") {
        Some("text" | "input_text") => {
            let text = string("text").ok_or_else(|| Error::new("text", "the text of the part", "none"))?;
            Ok(Said::Text(text.to_owned()))
        }
        Some("image" | "image_url" | "input_image") => {
            let inner = value.get("image_url").and_then(|url| url.get("url")?.as_str());
            let named = inner.or_else(|| ["image_url", "url", "path", "image", "base64"].into_iter().find_map(string));
            named.map_or(Ok(Source::Next), |name| source(name, string("base64").is_some(), folder)).map(Said::Image)
        }
        found => {
            let wanted = "{\"type\": \"text\", \"text\": …} or {\"type\": \"image\"}";
            Err(Error::new("type", wanted, found.unwrap_or("none")))
        }
    }
}

/// The picture that a part names: a path, a `file://` address, or the bytes in base64.
fn source(name: &str, bytes: bool, folder: &Path) -> Result<Source> {
    let data = name.strip_prefix("data:").map(|data| data.split_once(";base64,").map_or("", |(_, data)| data));
    if let Some(data) = data.or_else(|| bytes.then_some(name)) {
        let bytes = STANDARD.decode(data.trim());
        return bytes.map(Source::Bytes).map_err(|e| Error::new("image", "a picture in base64", e));
    }
    let remote = name.starts_with("http://") || name.starts_with("https://");
    ensure!(!remote, "image", "a file", name, "download the picture first: nothing is read from the network");
    Ok(Source::File(folder.join(name.strip_prefix("file://").unwrap_or(name))))
}
