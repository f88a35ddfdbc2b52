//! The chat template: found in the checkpoint, rendered with Hugging Face's extensions, with limits on time and size.
//!
//! A template is a program from the checkpoint, so it has a limit on its steps (fuel). Not here: token ids and
//! placeholders.
//! Source: transformers 5.17 `ProcessorMixin.get_processor_dict`, `chat_template_utils`. Spec: T4.5, A4.1, C4.13

mod bounds;
mod engine;
mod methods;
mod namespace;
mod python;
mod rewrite;
mod tuple;

use super::section::Section;
use super::settings::PROCESSOR;
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use crate::foreign::{Limits, watched};
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Environment, ErrorKind};
use serde_json::Value as Json;
use std::sync::Arc;

/// The most bytes of a template; real templates have 20 kB. The engine uses one stack level for every operator of a
/// chain, and the stack has room for any template of this size. Spec: C4.13
const MAX_SOURCE: usize = 256 << 10;
/// The bytes that a template may add to its input: a fixed number, and a number for every turn and every part.
/// Spec: C4.13
const OWN_WORDS: (usize, usize) = (64 << 10, 1 << 10);
/// How many times a template may repeat its input. Spec: C4.13
const REPEATS: usize = 4;

/// The expected template, for messages.
const RENDERS: &str = "a template that renders this prompt";

/// The day that `strftime_now` returns unless the caller gives another day. Renderings must be reproducible. Spec: A4.1
pub const DEFAULT_DATE: (i32, u32, u32) = (2024, 7, 26);

/// A chat template, ready to render.
#[derive(Debug, Clone)]
pub struct Template {
    env: Arc<Environment<'static>>,
    at: String,
}

/// One turn of a conversation: the speaker's role, and images and texts in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// The texts and images of the turn.
    pub content: Vec<Part<'a>>,
}

/// A part's type, and the content of a text.
type Owned = (&'static str, Option<String>);

/// A part of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// `{"type": "image"}`
    Image,
    /// `{"type": "video"}`
    Video,
    /// `{"type": "text", "text": …}`
    Text(&'a str),
}

impl<'a> Turn<'a> {
    /// Images first, then a text.
    pub fn new(role: &'a str, images: usize, text: &'a str) -> Turn<'a> {
        let images = std::iter::repeat_n(Part::Image, images);
        Turn { role, content: images.chain([Part::Text(text)]).collect() }
    }

    /// A text with an image in the place of each `mark`. Empty pieces of text are left out.
    pub fn placed(role: &'a str, text: &'a str, mark: &str) -> Turn<'a> {
        let pieces = text.split(mark).map(Part::Text);
        let mut content: Vec<Part<'a>> = pieces.flat_map(|piece| [Part::Image, piece]).skip(1).collect();
        content.retain(|part| *part != Part::Text(""));
        Turn { role, content }
    }

    /// A video first, then a text.
    pub fn film(role: &'a str, text: &'a str) -> Turn<'a> {
        Turn { role, content: vec![Part::Video, Part::Text(text)] }
    }

    /// The role, and the parts: the type, and the content of a text.
    fn owned(&self) -> (String, Vec<Owned>) {
        let part = |part: &Part<'_>| match part {
            Part::Image => ("image", None),
            Part::Video => ("video", None),
            Part::Text(text) => ("text", Some((*text).to_owned())),
        };
        (self.role.to_owned(), self.content.iter().map(part).collect())
    }
}

impl Template {
    /// The template of a checkpoint, from the first of these files that has one: `processor_config.json`,
    /// `chat_template.json`, `chat_template.jinja` (up to here as transformers), `tokenizer_config.json`.
    ///
    /// # Errors
    /// No file has a template; the template does not compile. Spec: T4.5, A4.3
    pub fn load(files: &Files) -> Result<Template> {
        let field = |name: &str| -> Result<Option<Template>> {
            let Some(section) = Section::read(files, name)? else { return Ok(None) };
            let Some(value) = section.get("chat_template") else { return Ok(None) };
            let at = format!("{}: chat_template", section.at);
            Ok(Some(Template::new(default_of(value, &at)?, at, DEFAULT_DATE)?))
        };
        for name in [PROCESSOR, "chat_template.json"] {
            if let Some(found) = field(name)? {
                return Ok(found);
            }
        }
        if let Some(bytes) = files.read("chat_template.jinja")? {
            let at = files.label("chat_template.jinja");
            let text = std::str::from_utf8(&bytes).map_err(|e| Error::new(&at, "UTF-8 text", e))?;
            return Template::new(text, at, DEFAULT_DATE);
        }
        if let Some(found) = field("tokenizer_config.json")? {
            return Ok(found);
        }
        Err(Error::new(files.label("chat_template.jinja"), "a chat template", "none")
            .remedy("chat_template.json and tokenizer_config.json may hold it too"))
    }

    /// A template from its source. `at` names the template in messages; `strftime_now` returns `date`.
    ///
    /// # Errors
    /// A template that does not compile or is larger than 256 KiB.
    pub fn new(source: &str, at: impl Into<String>, date: (i32, u32, u32)) -> Result<Template> {
        let at = at.into();
        let most = format!("a chat template of at most {MAX_SOURCE} bytes");
        ensure!(source.len() <= MAX_SOURCE, &at, most, source.len(), "shorten the template: real ones have some 10 kB");
        // Python opens the file with universal newlines, and jinja normalises the other newlines.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let compiled = watched(&at, RENDERS, Limits::TEXT, move || engine::compiled(&source, date))?;
        let env = Arc::new(compiled.map_err(|e| broken(&at, &e))?);
        Ok(Template { env, at })
    }

    /// The file and the field that the template came from.
    pub fn label(&self) -> &str {
        &self.at
    }

    /// The prompt of a conversation, up to the start of the assistant's turn. `special` are the variables `bos_token`
    /// and so on.
    ///
    /// # Errors
    /// The template raises an exception, runs out of fuel, renders more than 16 MiB, or renders too much text for
    /// messages of this size. Spec: C4.13
    pub fn render(&self, turns: &[Turn<'_>], special: &[(String, String)]) -> Result<String> {
        let turns: Vec<(String, Vec<Owned>)> = turns.iter().map(Turn::owned).collect();
        let most = most_rendered(&turns, special);
        let (env, special) = (self.env.clone(), special.to_vec());
        let rendered = watched(&self.at, RENDERS, Limits::TEXT, move || {
            engine::render(&env, context(&turns, &special), most) // this thread's large stack drops the context
        })?;
        rendered.map_err(|e| broken(&self.at, &e))?.ok_or_else(|| {
            let wanted = format!("at most {most} bytes of output for these messages");
            Error::new(&self.at, wanted, "more").remedy("the template adds too much text to the messages")
        })
    }
}

/// The most bytes of the prompt of these messages. A template of a few bytes must not cause minutes of work.
fn most_rendered(turns: &[(String, Vec<Owned>)], special: &[(String, String)]) -> usize {
    let parts = || turns.iter().flat_map(|(_, content)| content);
    let said: usize = parts().filter_map(|(_, said)| said.as_ref()).map(String::len).sum();
    let said = said + special.iter().map(|(_, text)| text.len()).sum::<usize>();
    let own = OWN_WORDS.0 + OWN_WORDS.1 * (turns.len() + parts().count());
    own.saturating_add(said.saturating_mul(REPEATS)).min(bounds::MAX_BYTES)
}

/// The variables of the template. Spec: T4.5
fn context(turns: &[(String, Vec<Owned>)], special: &[(String, String)]) -> Value {
    let text = |s: &str| Value::from(s.to_owned());
    let part = |(kind, said): &Owned| {
        let pairs = [("type", text(kind))].into_iter().chain(said.as_ref().map(|t| ("text", text(t))));
        Value::from_object(Fields(pairs.collect()))
    };
    let message = |(role, content): &(String, Vec<Owned>)| {
        let content: Vec<Value> = content.iter().map(part).collect();
        Value::from_object(Fields(vec![("role", text(role)), ("content", Value::from(content))]))
    };
    let mut context: Vec<(String, Value)> = special.iter().map(|(k, v)| (k.clone(), text(v))).collect();
    context.extend([
        ("messages".to_owned(), turns.iter().map(message).collect()),
        ("add_generation_prompt".to_owned(), Value::from(true)),
        ("tools".to_owned(), Value::from(())),
        ("documents".to_owned(), Value::from(())),
    ]);
    context.into_iter().collect::<std::collections::BTreeMap<String, Value>>().into_iter().collect()
}

/// A map that keeps the order of its keys, as Python's dict does. Templates may print or dump a message.
#[derive(Debug)]
struct Fields(Vec<(&'static str, Value)>);

impl Object for Fields {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.iter().find(|(k, _)| key.as_str() == Some(k)).map(|(_, v)| v.clone())
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(k, _)| Value::from(*k)).collect())
    }
}

/// The template named `default`, if a file holds several templates as a list of {name, template} or as an object.
fn default_of<'a>(value: &'a Json, at: &str) -> Result<&'a str> {
    let named = match value {
        Json::String(text) => return Ok(text),
        Json::Array(list) => list.iter().find(|t| t["name"] == "default").and_then(|t| t["template"].as_str()),
        Json::Object(map) => map.get("default").and_then(Json::as_str),
        _ => None,
    };
    named.ok_or_else(|| Error::new(at, "a text, or several of which one is named \"default\"", "another JSON value"))
}

/// The engine's message on one line.
fn broken(at: &str, e: &minijinja::Error) -> Error {
    let mut got = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(inner) = source {
        got = format!("{got}: {inner}");
        source = inner.source();
    }
    let error = Error::new(at, RENDERS, got.replace('\n', " "));
    match e.kind() {
        ErrorKind::OutOfFuel => {
            error.remedy(format!("it took more than {} steps; does it have an endless loop, for ever?", engine::FUEL))
        }
        ErrorKind::InvalidOperation => {
            error.remedy("messages are passed as lists of parts, as transformers' processor does")
        }
        _ => error,
    }
}
