//! A conversation template: what stands before and after each turn, in families whose own code writes prompts.
//!
//! Source: FastChat's `conversation.py` (separator style MPT). Spec: T4.9, D4.6

/// A conversation template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// The name in `config.json`.
    pub name: &'static str,
    /// What the system turn begins with.
    pub system: &'static str,
    /// What it says unless told otherwise.
    pub message: &'static str,
    /// What a turn of the user begins with.
    pub user: &'static str,
    /// What a turn of the assistant begins with.
    pub assistant: &'static str,
    /// What ends a turn.
    pub separator: &'static str,
}

/// What a question may say where an image belongs, in any family.
pub(crate) const MARK: &str = "<image>";

impl Conversation {
    /// The prompt, the assistant's turn begun: a line `<image>` for each image before what the user says, unless that
    /// says itself where they stand. Spec: D4.6
    pub fn render(&self, images: usize, prompt: &str, system: Option<&str>) -> String {
        let Conversation { system: before, message, user, assistant, separator, .. } = self;
        let lines = if prompt.contains(MARK) { 0 } else { images };
        let lines = format!("{MARK}\n").repeat(lines);
        let message = system.unwrap_or(message);
        format!("{before}{message}{separator}{user}{lines}{prompt}{separator}{assistant}")
    }
}
