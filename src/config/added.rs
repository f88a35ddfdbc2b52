//! The ids of tokens that were added to a vocabulary, from the files that name them. Not a tokenizer.

use super::json;
use crate::error::{Error, Result};
use crate::files::Files;
use serde_json::Value;

/// The files that name added tokens, small ones first.
const FILES: [&str; 3] = ["tokenizer_config.json", "added_tokens.json", "tokenizer.json"];

/// The id of an added token, from the first file that has it.
///
/// # Errors
/// A file that is no JSON.
pub(crate) fn id(files: &Files, token: &str) -> Result<Option<u32>> {
    for file in FILES {
        let found = of(files, file)?.into_iter().find(|(text, _)| text == token);
        if let Some((_, id)) = found {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The added tokens that a file names.
///
/// # Errors
/// It is no JSON.
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

/// Those of a `tokenizer.json`, which is large: nothing else of it is kept.
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
