//! The conversation templates in InternVL2's own code, which its checkpoints name instead of bringing a template.
//!
//! Source: InternVL2's `conversation.py` (separator style MPT) and `InternVLChatModel.chat`. Spec: T4.9, D4.6

use crate::error::{Error, Result};

/// A conversation template: what stands before and after each turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// The name in `config.json`.
    pub name: &'static str,
    /// What the system turn begins with.
    system: &'static str,
    /// What it says unless told otherwise.
    message: &'static str,
    user: &'static str,
    assistant: &'static str,
    /// What ends a turn.
    separator: &'static str,
}

/// Where an image stands in what the user says.
const IMAGE: &str = "<image>";

const MESSAGE: &str =
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。";

const HERMES_2: Conversation = Conversation {
    name: "Hermes-2",
    system: "<|im_start|>system\n",
    message: MESSAGE,
    user: "<|im_start|>user\n",
    assistant: "<|im_start|>assistant\n",
    separator: "<|im_end|>",
};

/// Every template. Spec: T4.9
pub const ALL: [Conversation; 4] = [
    HERMES_2,
    Conversation { name: "internlm2-chat", ..HERMES_2 },
    Conversation {
        name: "phi3-chat",
        system: "<|system|>\n",
        user: "<|user|>\n",
        assistant: "<|assistant|>\n",
        separator: "<|end|>",
        ..HERMES_2
    },
    Conversation {
        name: "internvl2_5",
        message: "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。",
        separator: "<|im_end|>\n",
        ..HERMES_2
    },
];

impl Conversation {
    /// The template of this name; `at` is where it stands.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str, at: &str) -> Result<Conversation> {
        let known = || ALL.map(|c| c.name).join(", ");
        ALL.into_iter().find(|c| c.name == name).ok_or_else(|| Error::new(at, format!("one of {}", known()), name))
    }

    /// The token that ends an answer.
    pub fn end(&self) -> &'static str {
        self.separator.trim_end()
    }

    /// The prompt, the assistant's turn begun: a line `<image>` for each image before what the user says, unless that
    /// says itself where they stand. Spec: D4.6
    pub fn render(&self, images: usize, prompt: &str, system: Option<&str>) -> String {
        let Conversation { system: before, message, user, assistant, separator, .. } = self;
        let lines = if prompt.contains(IMAGE) { 0 } else { images };
        let lines = format!("{IMAGE}\n").repeat(lines);
        let message = system.unwrap_or(message);
        format!("{before}{message}{separator}{user}{lines}{prompt}{separator}{assistant}")
    }
}
