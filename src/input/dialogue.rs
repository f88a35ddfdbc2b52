//! How a checkpoint writes a prompt: with the chat template in its files, or with a conversation template that it
//! names.
//!
//! Spec: D4.4, D4.6, A4.5

use super::conversation::{Conversation, MARK};
use super::template::{Part, Template, Turn};
use super::video;
use crate::error::{Error, Result, ensure};
use crate::files::Files;

/// The text that stands for a video in a rendered prompt whose frames are images.
const VIDEO: &str = "<video>";

/// A checkpoint's way to write prompts.
#[derive(Debug, Clone)]
pub enum Dialogue {
    /// A chat template from the checkpoint's files.
    Template(Template),
    /// A conversation template that the checkpoint names, and the place of that name.
    Conversation(Conversation, String),
}

impl Dialogue {
    /// The dialogue of a checkpoint: the conversation template that it names, otherwise the chat template in its files.
    ///
    /// # Errors
    /// As [`Template::load`].
    pub fn load(files: &Files, named: Option<Conversation>) -> Result<Dialogue> {
        let at = || format!("{}: template", files.label("config.json"));
        match named {
            Some(conversation) => Ok(Dialogue::Conversation(conversation, at())),
            None => Ok(Dialogue::Template(Template::load(files)?)),
        }
    }

    /// The source of the template, for messages.
    pub fn label(&self) -> String {
        match self {
            Dialogue::Template(template) => template.label().to_owned(),
            Dialogue::Conversation(conversation, at) => format!("{}, named in {at}", conversation.name),
        }
    }

    /// The prompt. Images come first, unless the texts place them. A text places images with the family's own
    /// `placeholder`, which stays unchanged, or with `<image>`. `special` are the tokenizer's named tokens. Spec: A4.5
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render(
        &self,
        images: usize,
        prompt: &str,
        system: Option<&str>,
        placeholder: &str,
        special: &[(String, String)],
    ) -> Result<String> {
        let placed = prompt.contains(placeholder) || system.is_some_and(|s| s.contains(placeholder));
        let template = match self {
            Dialogue::Template(template) => template,
            Dialogue::Conversation(c, _) => return Ok(c.render(if placed { 0 } else { images }, prompt, system)),
        };
        let mut turns: Vec<Turn<'_>> = system.map(|text| Turn::new("system", 0, text)).into_iter().collect();
        turns.push(match placed {
            true => Turn::new("user", 0, prompt),
            false if images > 0 && prompt.contains(MARK) => Turn::placed("user", prompt, MARK),
            false => Turn::new("user", images, prompt),
        });
        template.render(&turns, special)
    }

    /// The prompt of a conversation of several turns, up to the start of the assistant's turn.
    ///
    /// # Errors
    /// As [`Template::render`]; a conversation that does not end with a user's turn. Spec: D4.14
    pub fn converse(&self, turns: &[Turn<'_>], special: &[(String, String)]) -> Result<String> {
        let last = turns.last().map_or("no turn", |turn| turn.role);
        let remedy = "the model answers the last turn";
        ensure!(last == "user" || last == "tool", "messages", "a user's turn at the end", last, remedy);
        match self {
            Dialogue::Template(template) => template.render(turns, special),
            Dialogue::Conversation(conversation, _) => conversation.converse(turns),
        }
    }

    /// The prompt of a video and a question; the video comes first.
    ///
    /// # Errors
    /// As [`Template::render`]; a conversation template, because such a template supports no videos.
    pub fn film(&self, prompt: &str, system: Option<&str>, special: &[(String, String)]) -> Result<String> {
        let Dialogue::Template(template) = self else {
            return Err(Error::new(
                "video",
                "a chat template, which knows {\"type\": \"video\"}",
                "a conversation template",
            ));
        };
        let mut turns: Vec<Turn<'_>> = system.map(|text| Turn::new("system", 0, text)).into_iter().collect();
        turns.push(Turn::film("user", prompt));
        template.render(&turns, special)
    }

    /// The prompt of a clip whose frames are images, and the same with a line for each frame. mark: what stands for an image.
    /// Spec: D4.16
    ///
    /// # Errors
    /// As [`Template::render`]; a template that writes no `<video>`.
    pub fn clip(
        &self,
        frames: usize,
        prompt: &str,
        system: Option<&str>,
        mark: &str,
        special: &[(String, String)],
    ) -> Result<(String, String)> {
        let lines = video::lines(frames, mark);
        if let Dialogue::Conversation(conversation, _) = self {
            let rendered = conversation.render(0, &format!("{lines}{prompt}"), system);
            return Ok((rendered.clone(), rendered));
        }
        let rendered = self.film(prompt, system, special)?;
        let Some((before, after)) = rendered.split_once(VIDEO) else {
            return Err(Error::new(self.label(), format!("a template that writes {VIDEO} for a video"), "none"));
        };
        let text = format!("{before}{}{after}", lines.trim_end());
        Ok((rendered, text))
    }
}

impl Conversation {
    /// The prompt of several turns. An image is a line `<image>` where it stands. Source: `InternVLChatModel.chat` with
    /// a history. Spec: D4.14
    fn converse(&self, turns: &[Turn<'_>]) -> Result<String> {
        let (first, rest) = match turns.split_first() {
            Some((first, rest)) if first.role == "system" => (first.text(), rest),
            _ => (self.message.to_owned(), turns),
        };
        let mut prompt = format!("{}{first}{}", self.system, self.separator);
        for turn in rest {
            let start = match turn.role {
                "user" => self.user,
                "assistant" => self.assistant,
                role => return Err(Error::new("messages", "the roles system (first), user and assistant", role)),
            };
            prompt += &format!("{start}{}{}", turn.text(), self.separator);
        }
        Ok(prompt + self.assistant)
    }
}

impl Turn<'_> {
    /// The text, with a line `<image>` for an image.
    fn text(&self) -> String {
        let piece = |part: &Part<'_>| match part {
            Part::Text(text) => (*text).to_owned(),
            Part::Image | Part::Video => format!("{MARK}\n"),
        };
        self.content.iter().map(piece).collect()
    }
}
