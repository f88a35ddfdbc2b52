//! A conversation template: the text before and after each turn, for families whose own code writes prompts.
//!
//! Source: FastChat's `conversation.py` (separator style MPT). Spec: T4.9, D4.6

/// A conversation template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// The name in `config.json`.
    pub name: &'static str,
    /// The text at the start of the system turn.
    pub system: &'static str,
    /// The system turn's message, unless the caller gives another message.
    pub message: &'static str,
    /// The text at the start of a user's turn.
    pub user: &'static str,
    /// The text at the start of an assistant's turn.
    pub assistant: &'static str,
    /// The text at the end of a turn.
    pub separator: &'static str,
}

/// The text in a question that marks the place of an image, in any family.
pub(crate) const MARK: &str = "<image>";

impl Conversation {
    /// The prompt, up to the start of the assistant's turn. One line `<image>` for each image stands before the user's
    /// text, unless that text contains `<image>` itself. Spec: D4.6
    pub fn render(&self, images: usize, prompt: &str, system: Option<&str>) -> String {
        let Conversation { system: before, message, user, assistant, separator, .. } = self;
        let lines = if prompt.contains(MARK) { 0 } else { images };
        let lines = format!("{MARK}\n").repeat(lines);
        let message = system.unwrap_or(message);
        format!("{before}{message}{separator}{user}{lines}{prompt}{separator}{assistant}")
    }
}
