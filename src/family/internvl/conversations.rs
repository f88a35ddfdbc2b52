//! The conversation templates in InternVL2's own code. An InternVL2 checkpoint names one of these templates and does
//! not contain a template of its own.
//! Source: InternVL2's `conversation.py` and `InternVLChatModel.chat`. Spec: T4.9

use crate::error::{Error, Result};
use crate::input::conversation::Conversation;

const HERMES_2: Conversation = Conversation {
    name: "Hermes-2",
    system: "<|im_start|>system\n",
    message: "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。",
    user: "<|im_start|>user\n",
    assistant: "<|im_start|>assistant\n",
    separator: "<|im_end|>",
};

/// Every template. Spec: T4.9
pub const CONVERSATIONS: [Conversation; 4] = [
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

fn find(name: &str) -> Option<Conversation> {
    CONVERSATIONS.into_iter().find(|c| c.name == name)
}

/// The template with this name. `at`: the file and field of the name, for messages.
///
/// # Errors
/// There is no template with this name.
pub fn conversation(name: &str, at: &str) -> Result<Conversation> {
    let known = || CONVERSATIONS.map(|c| c.name).join(", ");
    find(name).ok_or_else(|| Error::new(at, format!("one of {}", known()), name))
}

/// The token that ends an answer in the template with this name.
pub(super) fn end(name: &str) -> &'static str {
    find(name).map_or("<|im_end|>", |c| c.separator.trim_end())
}
