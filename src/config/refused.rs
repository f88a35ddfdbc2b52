//! Model types that are refused by name: the words that a message adds to the list of supported types.

use crate::error::Error;

/// A part of a `model_type`, and why a model of this type is refused.
const WORDS: [(&str, &str); 3] = [
    ("_moe", "a mixture of experts is not supported; the dense sizes of the same series are"),
    ("gpt_oss", "GPT-OSS, a mixture of experts, is not supported"),
    ("internlm3", "InternLM3 is not supported; the sizes with Qwen2.5 are"),
];

/// The error for an unknown `model_type`, with the reason if the type is known to be refused.
pub(crate) fn named(e: Error) -> Error {
    let told = WORDS.into_iter().find(|(part, _)| e.at.ends_with("model_type") && e.got.contains(part));
    match told {
        Some((_, words)) => e.remedy(words),
        None => e,
    }
}
