//! A byte-level tokenizer in its old form, `vocab.json` and `merges.txt`, converted to a `tokenizer.json` without added
//! tokens.
//!
//! The result equals the output of transformers' converter for Qwen2's tokenizers. InternVL2-1B and older checkpoints
//! have no `tokenizer.json`. Source: transformers 5.17 `tokenization_qwen2.py`. Spec: D4.3

use crate::config::json;
use crate::error::{Error, Result, ensure};
use crate::files::Files;
use serde_json::json;

/// The file with the ids.
pub const FILE: &str = "vocab.json";
const MERGES: &str = "merges.txt";
/// The pattern with which Qwen2 cuts text into words.
const WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The bytes of a `tokenizer.json`; `None` if there is no `vocab.json`.
///
/// # Errors
/// A broken file, no `merges.txt`, or a tokenizer of another class than Qwen2's.
pub fn as_json(files: &Files) -> Result<Option<Vec<u8>>> {
    let Some(vocab) = json::load(files, FILE)? else { return Ok(None) };
    let at = files.label(MERGES);
    let merges = files.read(MERGES)?.ok_or_else(|| Error::new(&at, "the merges beside vocab.json", "no such file"))?;
    let merges = String::from_utf8(merges.into_owned()).map_err(|e| Error::new(&at, "UTF-8 text", e))?;
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
    let merges: Vec<&str> = lines.collect();
    let config = json::load(files, "tokenizer_config.json")?.unwrap_or_default();
    if let Some(class) = config.get("tokenizer_class") {
        let at = format!("{}: tokenizer_class", files.label("tokenizer_config.json"));
        let known = class == "Qwen2Tokenizer" || class == "Qwen2TokenizerFast";
        ensure!(known, at, "Qwen2Tokenizer beside vocab.json and merges.txt, or a tokenizer.json", class);
    }
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges},
    });
    Ok(Some(whole.to_string().into_bytes()))
}
