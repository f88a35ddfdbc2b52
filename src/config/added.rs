//! Reads the ids of tokens that were added to a vocabulary from the files that list these tokens. This is not a
//! tokenizer.

use super::json;
use crate::error::{Error, Result};
use crate::files::Files;
use serde_json::Value;

/// The files that list added tokens, small files first.
const FILES: [&str; 3] = ["tokenizer_config.json", "added_tokens.json", "tokenizer.json"];

/// The id of an added token, from the first file that lists it.
///
/// # Errors
/// A file is not valid JSON.
pub(crate) fn id(files: &Files, token: &str) -> Result<Option<u32>> {
    for file in FILES {
        let found = of(files, file)?.into_iter().find(|(text, _)| text == token);
        if let Some((_, id)) = found {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The added tokens that a file lists.
///
/// # Errors
/// The file is not valid JSON.
pub(crate) fn of(files: &Files, file: &str) -> Result<Vec<(String, u32)>> {
    let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    if file == "tokenizer.json" {
        return listed(files, file);
    }
    let Some(map) = json::load(files, file)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut add = |text: Option<&str>, id: Option<u32>| found.extend(text.map(String::from).zip(id));
    match file {
        "added_tokens.json" => map.iter().for_each(|(token, id)| add(Some(token), number(id))),
        _ => {
            let decoder = map.get("added_tokens_decoder").and_then(Value::as_object);
            decoder.into_iter().flatten().for_each(|(id, token)| add(token["content"].as_str(), id.parse().ok()));
        }
    }
    Ok(found)
}

/// The added tokens that a `tokenizer.json` lists. The file is large, so its other contents are not kept in memory.
fn listed(files: &Files, file: &str) -> Result<Vec<(String, u32)>> {
    #[derive(serde::Deserialize)]
    struct Whole {
        #[serde(default)]
        added_tokens: Vec<Token>,
    }
    #[derive(serde::Deserialize)]
    struct Token {
        content: String,
        id: u32,
    }
    let Some(bytes) = files.read(file)? else { return Ok(Vec::new()) };
    let whole: Whole = serde_json::from_slice(&bytes).map_err(|e| Error::new(files.label(file), "added_tokens", e))?;
    Ok(whole.added_tokens.into_iter().map(|token| (token.content, token.id)).collect())
}
